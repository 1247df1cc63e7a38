"""How often WeChat may be asked about one order by callers who poll."""

from collections import OrderedDict
from datetime import datetime, timedelta

from attrs import Factory, define

ASK_INTERVAL = timedelta(seconds=2)
REMEMBERED_MAX = 10_000  # orders; forgetting one only costs a question more


@define
class Pace:
    """Remembers when each order was last asked about, in this process, within a bound."""

    asked_at: OrderedDict[str, datetime] = Factory(OrderedDict)

    def may(self, out_trade_no: str, now: datetime) -> bool:
        """Whether the order may be asked about now; if so, that counts as asked."""
        last = self.asked_at.get(out_trade_no)
        if last is not None and last <= now < last + ASK_INTERVAL:
            return False
        self.asked_at[out_trade_no] = now
        self.asked_at.move_to_end(out_trade_no)
        while len(self.asked_at) > REMEMBERED_MAX:
            self.asked_at.popitem(last=False)
        return True
