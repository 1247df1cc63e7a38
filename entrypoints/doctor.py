"""All that can be known to be wrong before a payer finds out: settings first, then WeChat's answers."""

import asyncio
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from attrs import evolve

from adapters.webhook import is_outside
from adapters.wechat import miniprogram
from adapters.wechat.client import Client
from adapters.wechat.doctor import PROBES, Bench
from adapters.wechat.finding import Finding, Probe, Verdict, failed, fine, skipped
from adapters.wechat.merchant import CERTIFICATE_FILE, PRIVATE_KEY_FILE, PUBLIC_KEY_FILE
from adapters.wechat.miniprogram import MiniProgram
from entrypoints.container import nonce
from entrypoints.faults import Fault
from entrypoints.settings import SETTINGS, WECHAT, Reading, Settings, load, now, read, unknown
from entrypoints.settings_checks import Look, looks, used_by_others

PROBE_SECONDS = 45.0  # a call may be repeated; then the next check has its turn
Clock = Callable[[], datetime]


async def examine(
    given: Mapping[str, str],
    *,
    offline: bool = False,
    clock: Clock = now,
    dotenv: Path | None = None,
    **bench: Any,
) -> Sequence[Finding]:
    """Every finding, in the order of its check. Nothing is written but files that are thrown away.

    `given` are the variables, `dotenv` the file that some of them may come from; `bench` replaces parts
    of the doctor's bench.
    """
    reading = read(given, clock=clock)
    found = [*examined_settings(given, reading)]
    for fault in used_by_others(".env", dotenv) if dotenv else ():
        found.append(_finding(fault.variable, fault, Verdict.WARNING))
    if offline:
        return found
    if reading.merchant is None or any(one.verdict is Verdict.FAILED for one in found):
        return [*found, Finding("asking WeChat", Verdict.SKIPPED, "the settings come first")]
    settings = load(given, clock=clock)
    with tempfile.TemporaryDirectory(prefix="minitill-doctor-") as folder:
        return [*found, *await asked(settings, Path(folder), clock, **bench)]


# -- without a network ---------------------------------------------------------------------------


def examined_settings(given: Mapping[str, str], reading: Reading) -> Iterator[Finding]:
    """The variables, what they point at, and which ways of talking to WeChat they allow."""
    for fault in reading.faults:
        yield _finding(fault.variable, fault, Verdict.FAILED)
    if not reading.faults:
        named = sum(1 for one in SETTINGS if given.get(one.name) or given.get(one.name + "_FILE"))
        yield Finding("settings", Verdict.FINE, f"{named} of {len(SETTINGS)} are set, and make sense")
    for fault in unknown(given):
        yield _finding(fault.variable, fault, Verdict.WARNING)
    for name, look in looks(reading.subject).items():
        yield from _looked(name, look)
    yield from _ways(reading.values)


def _looked(name: str, look: Look) -> Iterator[Finding]:
    for fault in look.faults:
        yield _finding(name, fault, Verdict.FAILED)
    for fault in look.warnings:
        yield _finding(name, fault, Verdict.WARNING)
    if not look.faults and not look.warnings:
        verdict = Verdict.FINE if look.found else Verdict.SKIPPED
        yield Finding(name, verdict, look.found or "nothing to look at")


def _finding(name: str, fault: Fault, verdict: Verdict) -> Finding:
    told = fault.problem if name == fault.variable else f"{fault.variable}: {fault.problem}"
    return Finding(name, verdict, told, fault.remedy)


def _ways(values: Mapping[str, Any]) -> Iterator[Finding]:
    """V2, V3 with certificates, V3 with the public key: usable, or what is missing (R52)."""
    folder = Path(values["certs_dir"] or "certs")
    files = {
        name: (folder / name).is_file() for name in (PRIVATE_KEY_FILE, CERTIFICATE_FILE, PUBLIC_KEY_FILE)
    }
    both = {WECHAT + "MCH_ID": bool(values["mch_id"]), WECHAT + "APPID": bool(values["appid"])}
    v3 = {
        **both,
        WECHAT + "API_V3_KEY": bool(values["api_v3_key"]),
        PRIVATE_KEY_FILE: files[PRIVATE_KEY_FILE],
        CERTIFICATE_FILE: files[CERTIFICATE_FILE],
    }
    public_key = {
        WECHAT + "PUBLIC_KEY_ID": bool(values["public_key_id"]),
        PUBLIC_KEY_FILE: files[PUBLIC_KEY_FILE],
    }
    ways = {
        "V2": {**both, WECHAT + "API_KEY": bool(values["api_key"])},
        "V3 with platform certificates": v3,
        "V3 with the WeChat Pay public key": {**v3, **public_key},
    }
    for name, parts in ways.items():
        missing = [part for part, there in parts.items() if not there]
        if missing:
            yield Finding(name, Verdict.SKIPPED, f"not usable, missing: {', '.join(missing)}")
        elif name == "V2" and not (files[PRIVATE_KEY_FILE] and files[CERTIFICATE_FILE]):
            found, remedy = "usable, but not for refunds", f"bring {PRIVATE_KEY_FILE} and {CERTIFICATE_FILE}"
            yield Finding(name, Verdict.WARNING, found, remedy)  # mutual TLS, v2.md section 1
        else:
            yield Finding(name, Verdict.FINE, "everything it needs is here")


# -- with a network ------------------------------------------------------------------------------


async def asked(settings: Settings, folder: Path, clock: Clock, **parts: Any) -> Sequence[Finding]:
    """What WeChat, our own address and the shop's name say. No call moves money or makes an order."""
    lines = [_line(settings, clock, settings.base_url, settings.backup_url)]
    login = None
    if settings.app_secret:
        lines.append(_line(settings, clock, *miniprogram.addresses(settings.base_url)))
        appid = settings.merchant.appid
        login = MiniProgram(client=lines[-1], appid=appid, app_secret=settings.app_secret)
    usual: dict[str, Any] = {
        "merchant": settings.merchant,
        "client": lines[0],
        "clock": clock,
        "nonce": nonce,
        "folder": folder,
        "base_url": settings.base_url,
        "backup_url": settings.backup_url,
        "login": login,
        "is_public": is_outside,
    }
    bench = Bench(**usual | parts)
    probes = (*PROBES, Probe("webhook's host", partial(_webhook_host, settings)))
    try:
        return await run(probes, bench)
    finally:
        for line in lines:
            await line.close()


async def run(
    probes: Sequence[Probe[Bench]], bench: Bench, seconds: float = PROBE_SECONDS
) -> Sequence[Finding]:
    """One after the other, each within its time; one that could tell nothing is skipped."""
    done: dict[str, Finding] = {}
    for probe in probes:
        if obstacle := probe.obstacle(done):
            found = skipped(f"tells nothing before this is fine: {obstacle}")
        else:
            try:
                async with asyncio.timeout(seconds):
                    found = await probe.run(bench)
            except TimeoutError:
                found = failed(
                    f"not done within {seconds:g} s", "look at the network, and run the doctor again"
                )
        done[probe.name] = evolve(found, name=probe.name)
    return list(done.values())


def _line(settings: Settings, clock: Clock, base_url: str, backup_url: str) -> Client:
    return Client(
        clock=clock, base_url=base_url, backup_url=backup_url, read_seconds=settings.timeout_seconds
    )


async def _webhook_host(settings: Settings, bench: Bench) -> Finding:
    """The name of the shop's backend is known and may be called; nobody is called."""
    if not settings.webhook_url:
        return skipped("MINITILL_WEBHOOK_URL is not set: nobody hears what happens")
    host = urlsplit(settings.webhook_url).hostname or ""
    try:
        addresses = await bench.resolve(host)
    except OSError:
        return failed(f"{host} is not found", "check MINITILL_WEBHOOK_URL and this machine's DNS")
    inside = [address for address in addresses if not bench.is_public(address)]
    if inside and not settings.webhook_allow_private:
        remedy = "use the shop's public address, or set MINITILL_WEBHOOK_ALLOW_PRIVATE=true"
        return failed(f"{host} is inside the network, at {', '.join(inside)}", remedy)
    return fine(f"{host} is at {', '.join(addresses)}")
