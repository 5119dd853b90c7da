"""How a command ends: 0 ok, 1 failed, 2 usage (click says so), 78 configuration.

78 is EX_CONFIG of sysexits.h.
"""

from typing import Final

FAILED: Final = 1
BAD_CONFIGURATION: Final = 78

# Below every --help.
EXIT: Final = "Exit status: 0 ok, 1 failed, 2 wrong usage, 78 wrong configuration."
