"""Buttons that are off until what they work with is there; worked out in the browser alone."""

import gradio as gr

FILLED = "(value) => typeof value === 'string' ? value.trim() !== '' : Array.isArray(value) ? value.length > 0 : value != null"


def needs(button: gr.Button, *fields: gr.components.Component) -> None:
    """Turn a button on while each of these fields holds something, and off again; it begins as its fields do."""
    _follow(button, fields, "every")


def needs_one(button: gr.Button, *fields: gr.components.Component) -> None:
    """Turn a button on while one of these fields holds something."""
    _follow(button, fields, "some")


def _follow(button: gr.Button, fields: tuple, enough: str) -> None:
    filled = [field.value not in (None, "", []) for field in fields]
    button.interactive = all(filled) if enough == "every" else any(filled)
    js = f"(...values) => ({{__type__: 'update', interactive: values.{enough}({FILLED})}})"
    gr.on([field.change for field in fields], None, list(fields), button, js=js)
