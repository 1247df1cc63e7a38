"""WeChat's side, for tests and first steps: a WeChat Pay that behaves, over real HTTP.

    credentials = prepare(directory, base_url=…, notify_url=…)
    simulator = Simulator(credentials, seed=7)
    await simulator.start("127.0.0.1", 5001)

`book.py` is the model without a wire; `v2.py` and `v3.py` speak for it; `notifier.py` tells the merchant.
"""

from adapters.wechat.simulator.clock import SimClock
from adapters.wechat.simulator.credentials import Credentials, prepare
from adapters.wechat.simulator.server import Simulator

__all__ = ["Credentials", "SimClock", "Simulator", "prepare"]
