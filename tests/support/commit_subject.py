"""The check of a commit's subject that pre-commit runs: `area: what`, 72 characters at most."""

import re
import sys
from pathlib import Path

LONGEST = 72


def fault(message: str) -> str | None:
    """What is wrong with the first line of a commit message; None where nothing is."""
    subject = message.split("\n", 1)[0]
    if re.match(r"(Merge|Revert|fixup!|squash!) ", subject):
        return None
    if len(subject) > LONGEST:
        return f"the subject has {len(subject)} characters: {LONGEST} at most, and the reason in the body"
    if not re.match(r"[\w./-]+(, [\w./-]+)*: \S", subject):
        return "the subject is 'area: what', as in 'raster: masks of warped files count'"
    if re.search(r"\bwip\b", subject, re.IGNORECASE):
        return "nothing unfinished on main"
    return None


if __name__ == "__main__":
    found = fault(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.exit(found and f"commit message: {found}")
