"""What the audit record has, over the end of a day too: a test that runs at midnight (UTC) finds two files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from app import audit


def records(folder: Path | None = None) -> list[dict[str, Any]]:
    """All records in their order; of this process's state folder, or of the `audit` folder that is named."""
    files = sorted((folder or audit.audit_dir()).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]
