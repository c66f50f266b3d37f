"""Words of the model lists."""

WORDS = {
    "offer.parameters": ("{billions} B", "{billions} млрд"),
    "offer.bytes": ("{gb} GB", "{gb} ГБ"),
    "offer.gated": ("terms to accept on the hub", "нужно принять условия на хабе"),
    "offer.here": ("on this disk", "есть на диске"),
}
