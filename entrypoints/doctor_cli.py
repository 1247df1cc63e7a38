"""`minitill doctor`: what is wrong, and how to mend it, before a payer finds out."""

import argparse
import asyncio
import json
import logging
from collections.abc import Mapping, Sequence

from adapters.wechat.finding import Finding, Verdict
from entrypoints.commands import DOTENV, declare, given_by
from entrypoints.doctor import examine

DONE, FAILED = 0, 1
MARKS: Mapping[Verdict, str] = {
    Verdict.FINE: "✔",
    Verdict.FAILED: "✘",
    Verdict.WARNING: "!",
    Verdict.SKIPPED: "–",
}


def add_doctor_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare it."""
    command = declare(
        commands,
        "doctor",
        "check the settings, and WeChat's answers to harmless calls; moves no money",
        "minitill doctor --offline",
    )
    command.add_argument("--offline", action="store_true", help="settings and files only; nobody is called")
    command.add_argument("--json", action="store_true", help="for programs")
    command.add_argument("--database", help="sqlite:///FILE; default: MINITILL_DATABASE")
    command.set_defaults(run=_doctor)


def _doctor(wish: argparse.Namespace) -> int:
    # The table says it all: what the line to WeChat logs on the way would say it twice.
    logging.getLogger("adapters").setLevel(logging.CRITICAL)
    findings = asyncio.run(examine(given_by(wish), offline=wish.offline, dotenv=DOTENV))
    print(as_json(findings) if wish.json else as_table(findings))
    return FAILED if any(one.verdict is Verdict.FAILED for one in findings) else DONE


def as_json(findings: Sequence[Finding]) -> str:
    """One object: whether all is well, and the findings in order."""
    lines = [
        {"name": one.name, "verdict": one.verdict.value, "found": one.found, "remedy": one.remedy}
        for one in findings
    ]
    fine = all(one.verdict is not Verdict.FAILED for one in findings)
    return json.dumps({"ok": fine, "findings": lines}, ensure_ascii=False, indent=2)


def as_table(findings: Sequence[Finding]) -> str:
    """A line for each check, a second one for its remedy, and the sum of it."""
    width = max((len(one.name) for one in findings), default=0)
    lines = []
    for one in findings:
        lines.append(f"{MARKS[one.verdict]} {one.name.ljust(width)}  {one.found}")
        if one.remedy:
            lines.append(f"  {' ' * width}  → {one.remedy}")
    failures = sum(one.verdict is Verdict.FAILED for one in findings)
    warnings = sum(one.verdict is Verdict.WARNING for one in findings)
    sum_of_it = f"{failures} to mend" if failures else "nothing to mend"
    return "\n".join([*lines, "", f"{sum_of_it}, {warnings} warning(s), {len(findings)} checks"])
