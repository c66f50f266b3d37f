"""Errors that the page shows to the person; for the terminal they are no crash, so no traceback is printed there."""

from collections.abc import Callable
from functools import wraps
from html import escape

import gradio as gr

from core import files, paths
from core.errors import UserError


class Refused(gr.Error):
    """raise Refused(say.trouble(error)); the browser takes a notice for HTML, so what it quotes is escaped."""

    def __init__(self, message: str, duration: float | None = 10):
        super().__init__(escape(message, quote=False), duration, print_exception=False)


def inform(message: str) -> None:
    """Show a notice; what it quotes is escaped."""
    gr.Info(escape(message, quote=False))


def warn(message: str, duration: float | None = 10) -> None:
    """Show a warning; what it quotes is escaped."""
    gr.Warning(escape(message, quote=False), duration=duration)


def show_errors(handler: Callable) -> Callable:
    """Decorate handler(say, ...): a UserError, or one of the system, becomes a notice in the person's language."""

    @wraps(handler)
    def guarded(say, *values, **named):
        try:
            return handler(say, *values, **named)
        except UserError as error:
            raise Refused(say.trouble(error)) from error
        except OSError as error:
            raise Refused(say.trouble(files.worded(error, paths.home()))) from error

    return guarded
