"""What a person runs first: does this machine train, and as fast as it should? `python -m core.check_card --json`.

Every check is ok, slow or broken, with the one command that repairs it. The checks run in processes of their own, each
with a time limit: a crash in one of them is a result, and the others go on. Nothing here imports torch.
"""
