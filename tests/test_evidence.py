"""What is kept of WeChat's messages: enough to understand them, nothing that gives a payer away."""

import json

from adapters.wechat import v2_words, v3_words
from adapters.wechat.evidence import EVIDENCE_BYTES_MAX, cut, shown, shown_headers

OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"


def test_payers_are_shortened_and_accounts_hidden_however_deep():
    kept = json.loads(
        shown(
            {
                "payer": {"openid": OPENID, "sub_openid": OPENID},
                "user_received_account": "招商银行信用卡0403",
                "list": [{"openid": OPENID}],
                "sign": "ABC",
                "nonce_str": "n",
                "amount": {"total": 1},
            }
        )
    )
    assert kept == {
        "payer": {"openid": "oUpF8u…", "sub_openid": "oUpF8u…"},
        "user_received_account": "…",
        "list": [{"openid": "oUpF8u…"}],
        "amount": {"total": 1},
    }


def test_evidence_is_bounded_and_whole_characters():
    assert len(cut("茶" * EVIDENCE_BYTES_MAX).encode()) <= EVIDENCE_BYTES_MAX
    assert set(cut("茶" * EVIDENCE_BYTES_MAX)) == {"茶"}
    assert cut("\ud800") == "?"


def test_every_word_of_wechat_brings_its_evidence():
    v3 = v3_words.trade_of(
        {
            "out_trade_no": "PAY001",
            "trade_state": "NOTPAY",
            "appid": "wx1",
            "mchid": "1",
            "trade_state_desc": "未支付",
        }
    )
    v2 = v2_words.trade_of(
        {"out_trade_no": "PAY001", "trade_state": "NOTPAY", "appid": "wx1", "mch_id": "1", "sign": "X"}
    )
    assert json.loads(v3.evidence)["trade_state_desc"] == "未支付"
    assert json.loads(v2.evidence) == {
        "out_trade_no": "PAY001",
        "trade_state": "NOTPAY",
        "appid": "wx1",
        "mch_id": "1",
    }


def test_a_header_that_is_no_text_can_be_stored_all_the_same():
    kept = shown_headers({"User-Agent": "\udcff", "Wechatpay-Serial": "a\udc80b"})
    assert kept == {"user-agent": "?", "wechatpay-serial": "a?b"}
