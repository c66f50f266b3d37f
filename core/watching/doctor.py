"""placeholder"""


def diagnose(run_id):
    return None
