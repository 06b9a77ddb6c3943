"""Known vulnerabilities among the pinned dependencies (constraints.txt), asked for with pip-audit.

Where no advisory database answers, as without a network, pip-audit passes over every dependency and is content. Here
that is said in words, and it is a failure only with ``--required``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

COMMAND = (sys.executable, "-m", "pip_audit", "-r", "constraints.txt", "--no-deps", "--disable-pip", "--format", "json")


def verdict(output: str, errors: str) -> tuple[str, bool | None]:
    """What is to be said, and whether all is well; None if nothing could be checked."""
    try:
        found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        found = []
    audited = [entry for entry in found if "skip_reason" not in entry]
    if not audited:
        last = (errors.strip().splitlines() or ["it said nothing"])[-1][:200] if not found else "no answer for any"
        return f"dependencies were NOT checked: the advisory database cannot be reached ({last})", None
    lines = [
        f"{entry['name']} {entry['version']}: {known['id']}, "
        f"mended in {', '.join(known['fix_versions']) or 'no version'}"
        for entry in audited
        for known in entry["vulns"]
    ]
    skipped = f"; {len(found) - len(audited)} are unknown to the database" if len(audited) < len(found) else ""
    lines.append(f"{len(audited)} dependencies checked, {len(lines)} known vulnerabilities{skipped}")
    return "\n".join(lines), len(lines) == 1


def main(arguments: Sequence[str]) -> int:
    """Ask and say."""
    asked = subprocess.run(COMMAND, capture_output=True, text=True, check=False)
    words, well = verdict(asked.stdout, asked.stderr)
    print(words)
    return int(well is False or (well is None and "--required" in arguments))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
