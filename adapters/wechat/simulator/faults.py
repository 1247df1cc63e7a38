"""What goes wrong on purpose: by rate with a seed, or for the next so many."""

import random
from collections.abc import Iterator, Mapping
from typing import Any

from attrs import Factory, define, evolve, field, frozen

from adapters.wechat.simulator.book import chance
from adapters.wechat.simulator.codes import CODES

# What each group of faults may hold; the order is the order of drawing, and one fault is enough.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "calls": (
        "timeout_before",  # no answer, nothing done
        "timeout_after",  # no answer, but done
        "unavailable_before",  # 502 of the front end, nothing done
        "unavailable_after",  # 502 of the front end, but done
        "cut_before",  # the connection breaks, nothing done
        "cut_after",  # the connection breaks, but done
        "wrong_signature",
        "unsigned",
        "probe",  # V3: a WECHATPAY/SIGNTEST/ signature; V2: a wrong one
        "system_error",  # SYSTEMERROR, nothing done; in V2 unsigned, as seen from orderquery
        "system_error_after",  # the same, but done
        "refuse",  # a well-signed refusal with `code`, nothing done
    ),
    "notifications": (
        "drop",  # lost on the way
        "delay",  # `seconds` late
        "duplicate",  # twice at once
        "reorder",  # after the next one, or a minute late
        "corrupt",  # one byte changed after signing
        "probe",  # signed falsely to see whether it is noticed; the true one follows on schedule
        "forged",  # rightly signed, but `field` (one of FORGEABLE) is not the order's
    ),
    "refunds": (
        "abnormal",  # the bank refuses
        "closed",  # ends without money moving
        "delay",  # ends `seconds` after it was taken
    ),
}
OPERATIONS = (
    "order",
    "query",
    "close",
    "refund",
    "refund_query",
    "abnormal_refund",
    "certificates",
    "echo",
    "login",
)
FORGEABLE = ("total_fee", "appid", "mch_id", "currency", "out_trade_no")
SECONDS_MAX = 10 * 24 * 3600


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong, how often, and where."""

    kind: str = ""  # "" is none
    rate: float = 0.0  # of those that come, 0 to 1
    next: int = 0  # so many at once, whatever the rate
    on: tuple[str, ...] = ()  # calls only: these operations; none named means all
    seconds: float = 30.0
    code: str = "SYSTEM_ERROR"
    field: str = "total_fee"

    def __bool__(self) -> bool:
        return bool(self.kind)


NONE = Fault()


class BadFault(ValueError):
    """A fault that cannot be set; the message says what is wrong with it."""


@define
class Faults:
    """The faults in force; whoever is about to act draws one."""

    seed: int = 0
    in_force: dict[str, dict[str, Fault]] = Factory(lambda: {group: {} for group in GROUPS})
    _chance: random.Random = field(factory=lambda: chance(0), repr=False)

    def __attrs_post_init__(self) -> None:
        self._chance = chance(self.seed)

    def set(self, group: str, kind: str, **how: Any) -> None:
        """Put a fault in force, in place of an earlier one of its kind; raise BadFault."""
        if kind not in GROUPS.get(group, ()):
            raise BadFault(f"{group}.{kind} is no fault; there are {', '.join(_all_kinds())}")
        self.in_force[group][kind] = Fault(kind=kind, **_valid(kind, how))

    def clear(self) -> None:
        for group in self.in_force.values():
            group.clear()

    def reseed(self, seed: int) -> None:
        """Start chance afresh: the same seed and the same calls give the same faults."""
        self.seed, self._chance = seed, chance(seed)

    def call(self, operation: str) -> Fault:
        """What goes wrong with this call."""
        return self._draw("calls", operation)

    def notification(self) -> Fault:
        """What goes wrong with this attempt to notify."""
        return self._draw("notifications", "")

    def refund(self) -> Fault:
        """What becomes of this refund, if not the usual."""
        return self._draw("refunds", "")

    def _draw(self, group: str, operation: str) -> Fault:
        for kind in GROUPS[group]:
            fault = self.in_force[group].get(kind)
            if fault is None or (fault.on and operation not in fault.on):
                continue
            if fault.next:
                self.in_force[group][kind] = evolve(fault, next=fault.next - 1)
                return fault
            if fault.rate and self._chance.random() < fault.rate:
                return fault
        return NONE

    # -------------------------------------------------------------- as JSON

    def read(self, wanted: Mapping[str, Any]) -> None:
        """Put in force what a JSON object asks for; raise BadFault and change nothing if it is wrong.

        `{"seed": 7, "clear": true, "calls": {"timeout_after": {"next": 1, "on": ["refund"]}},
        "notifications": {"drop": 0.5}}`: a bare number is a rate.
        """
        fresh = Faults(seed=self.seed)
        for group, kind, how in _asked(wanted):
            fresh.set(group, kind, **how)
        if wanted.get("clear"):
            self.clear()
        if "seed" in wanted:
            self.reseed(wanted["seed"])
        for group, faults in fresh.in_force.items():
            self.in_force[group].update(faults)

    def as_json(self) -> dict[str, Any]:
        """What is in force, in the shape that `read` takes."""
        shown: dict[str, Any] = {"seed": self.seed}
        for group, faults in self.in_force.items():
            shown[group] = {
                kind: {"rate": fault.rate, "next": fault.next, "on": list(fault.on)}
                for kind, fault in faults.items()
            }
        return shown


def _all_kinds() -> list[str]:
    return [f"{group}.{kind}" for group, kinds in GROUPS.items() for kind in kinds]


def _asked(wanted: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for group, faults in wanted.items():
        if group == "clear":
            continue
        if group == "seed":
            if type(faults) is not int:
                raise BadFault("seed is an integer")
            continue
        if group not in GROUPS or not isinstance(faults, dict):
            raise BadFault(f"{group} is no group of faults; there are {', '.join(GROUPS)}, seed and clear")
        for kind, how in faults.items():
            yield group, kind, {"rate": how} if _is_number(how) else how if isinstance(how, dict) else {}


def _valid(kind: str, how: Mapping[str, Any]) -> dict[str, Any]:
    given: dict[str, Any] = {
        "rate": 0,
        "next": 0,
        "on": (),
        "seconds": 30.0,
        "code": "SYSTEM_ERROR",
        "field": "total_fee",
    }
    if not how or set(how) - set(given):
        raise BadFault(f"{kind}: a fault is a rate, or an object of {', '.join(given)}")
    given |= how
    on = given["on"] = [given["on"]] if isinstance(given["on"], str) else given["on"]
    rules = {
        "rate is a number from 0 to 1": _is_number(given["rate"]) and 0 <= given["rate"] <= 1,
        "next is a whole number from 0": type(given["next"]) is int and given["next"] >= 0,
        f"on names some of {', '.join(OPERATIONS)}": isinstance(on, list | tuple)
        and all(name in OPERATIONS for name in on),
        f"seconds is a number from 0 to {SECONDS_MAX}": _is_number(given["seconds"])
        and 0 <= given["seconds"] <= SECONDS_MAX,
        f"code is one of {', '.join(CODES)}": given["code"] in list(CODES),
        f"field is one of {', '.join(FORGEABLE)}": given["field"] in FORGEABLE,
    }
    for rule, kept in rules.items():
        if not kept:
            raise BadFault(f"{kind}: {rule}")
    return {**given, "on": tuple(on)}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
