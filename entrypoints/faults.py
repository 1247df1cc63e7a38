"""What is wrong with the settings, in lines that an operator can act on."""

from attrs import frozen


@frozen
class Fault:
    """One setting that is wrong or missing: which, why, and how to mend it. Never its value."""

    variable: str
    problem: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.problem}; {self.remedy}"


class Faults(Exception):
    """All that is wrong with the settings, one line each."""

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = faults
