"""`python -m core.hardware`; see core.hardware.hardware."""

from core.hardware import hardware

if __name__ == "__main__":
    hardware.main()
