"""What this machine has: `python -m core.hardware --json`."""

import argparse
import dataclasses
import json

from core import paths
from core.hardware import hardware, nvidia


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m core.hardware", description=hardware.__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    as_json = parser.parse_args().json
    machine = hardware.machine()
    if as_json:
        print(json.dumps(dataclasses.asdict(machine)))
        return
    for gpu in machine.gpus:
        size = f"{gpu.free_bytes / 2**30:.1f} of {gpu.total_bytes / 2**30:.1f} GiB free"
        print(f"{gpu.name}: {size if gpu.total_bytes else 'the driver does not say how much memory'} ({gpu.uuid})")
    for unseen in machine.unseen:
        print(unseen.error)
    for unseen in machine.left_out:
        print(f"{unseen.card} is not used: torch {unseen.version} is built for another make of card.")
    if error := nvidia.driver().error:
        print(error)
    print(
        f"{machine.cores} cores, {machine.memory_free_bytes / 2**30:.1f} of {machine.memory_bytes / 2**30:.1f} GiB free"
    )
    print(f"{machine.disk_free_bytes / 2**30:.0f} GiB of disk free in {paths.home()}")


if __name__ == "__main__":
    main()
