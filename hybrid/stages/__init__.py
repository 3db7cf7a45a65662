"""What each stage does: it reads the artefacts before it and fills the folder `result` in its work folder.

Everything else in the work folder is the stage's own record of how far it came, from which an interrupted run goes on.
"""

from typing import Any

Counts = dict[str, Any]
