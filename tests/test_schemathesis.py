"""The whole service under requests drawn from its own document: right ones, wrong ones, every method."""

import asyncio
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from string import Template

import pytest
from aiohttp import ClientSession
from dotenv import dotenv_values

from adapters.wechat.simulator import prepare
from domain.trade import Trade, TradeState
from tests.documented_till import KEY, VARIABLES, documented_till
from tests.http_till import CREATE, ORDERS, REFUND, TEA

HERE = Path(__file__).resolve().parent
CASES_MAX = 50  # of each operation, in each phase


async def furnished(served):
    """Orders in each state, and a refund; what is found where it is drawn."""
    async with ClientSession(served.url, headers={"Authorization": f"Bearer {KEY}"}) as client:

        async def call(method, path, **more):
            async with client.request(method, path, **more) as answer:
                assert answer.status == 200, await answer.text()
                return await answer.json()

        numbers = [(await call("POST", CREATE, json=TEA))["data"]["out_trade_no"] for _ in range(4)]
        for number in numbers[:2]:
            await served.till.container.payments().record(paid(number), "notify")
        refund = await call("POST", REFUND, json={"out_trade_no": numbers[0], "refund_fee": 40})
        page = await call("GET", ORDERS + TEA["openid"], params={"limit": "1"})
    return {
        "orders": numbers,
        "openids": [TEA["openid"]],
        "refunds": [refund["data"]["out_refund_no"]],
        "cursors": [page["next_cursor"]],
    }


def paid(out_trade_no):
    return Trade(
        out_trade_no=out_trade_no,
        trade_state=TradeState.SUCCESS,
        total_fee=TEA["total_fee"],
        transaction_id=f"42{out_trade_no[3:]}",
        time_end=datetime.now(UTC),
    )


def both_versions(folder):
    """A merchant's keys of V2 and V3, so that notifications of both are understood."""
    prepare(
        folder,
        base_url="http://127.0.0.1:1",
        notify_url=VARIABLES["WECHAT_PAY_NOTIFY_URL"],
        public_key_mode=True,
    )
    return dotenv_values(folder / "simulator.env")


async def run(served, folder, things):
    """What schemathesis says, in a process of its own."""
    config = folder / "schemathesis.toml"
    words = {name: json.dumps(values) for name, values in things.items()}
    words |= {"key": KEY, "hooks": str(HERE / "schemathesis_hooks.py")}
    config.write_text(Template((HERE / "schemathesis.toml").read_text()).substitute(words))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(config)),
        *("run", f"{served.url}/openapi.json", "--max-examples", str(CASES_MAX)),
        *("--generation-database", "none", "--no-color"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=folder,  # it leaves notes for itself
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    try:
        said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, said.decode()


@pytest.mark.slow
async def test_no_request_makes_the_service_say_what_its_document_does_not(tmp_path):
    async with documented_till(tmp_path, **both_versions(tmp_path)) as served:
        code, said = await run(served, tmp_path, await furnished(served))
    assert code == 0, said
    generated = re.search(r"(\d+) generated, \d+ passed", said)
    assert generated, said
    assert int(generated[1]) > 500
