"""Runs in a fresh environment that holds the base install and nothing else; exit status 0 is success.

`python use_runtime.py [FOLDER]`: FOLDER, where given, holds what the test has prepared for a whole run.
"""

from __future__ import annotations

import importlib.util
import sys

import deploy.runtime.onnx_policy  # noqa: F401  # loading is the test
import robot_rlpd.bridge.client  # noqa: F401  # loading is the test

ABSENT = ("torch", "mujoco", "gymnasium", "h5py")


def main() -> int:
    found = [name for name in ABSENT if importlib.util.find_spec(name) is not None]
    if found:
        print(f"should not be installed: {', '.join(found)}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
