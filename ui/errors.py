"""A refusal, told to the person at the screen; for the terminal it is no crash, so no traceback is printed there."""

import gradio as gr


class Refused(gr.Error):
    """raise Refused(say.trouble(error))"""

    def __init__(self, message: str):
        super().__init__(message, print_exception=False)
