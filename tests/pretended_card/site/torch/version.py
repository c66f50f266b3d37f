"""Read as text by core.hardware.torch_build, never imported: beside a pretended card, torch is one that was built for CUDA."""

__version__ = "2.13.0+cu130"
cuda: str | None = "13.0"
hip: str | None = None
rocm: str | None = None
xpu: str | None = None
