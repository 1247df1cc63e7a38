"""What is worth counting while the till works."""


class Observer:
    """Told of each thing as it happens; this one looks away. Never raises, never waits.

    Every word it is told comes from a list of ours, never from a caller, so that
    nobody can make it remember without end.
    """

    def created(self, outcome: str) -> None:
        """WeChat answered a new order: accepted, refused or unknown."""

    def notified(self, version: str, result: str) -> None:
        """A notification of v2 or v3 was taken, or refused for the reason named."""

    def verified(self, version: str, result: str, serial: str) -> None:
        """A signature of WeChat's was looked at: ok, or the check that failed; `serial` of a key we hold."""

    def disagreed(self, code: str) -> None:
        """WeChat's verified word contradicts what we hold."""

    def called(self, call: str, outcome: str, code: str, seconds: float) -> None:
        """WeChat was asked: done, refused or unknown, its code, and how long all of it took."""

    def served(self, method: str, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
