"""The keys WeChat signs with: platform certificates, the WeChat Pay public key, and which one when."""

import random
from datetime import datetime

from attrs import define, field, frozen
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from adapters.wechat import v3_wire
from adapters.wechat.simulator.certificates import make_certificate, make_key
from adapters.wechat.simulator.codes import Refusal
from adapters.wechat.simulator.credentials import Credentials


@frozen
class Signer:
    """A private key of WeChat's, and the serial its signatures name."""

    serial: str
    key: RSAPrivateKey = field(repr=False)
    certificate: v3_wire.PlatformKey | None = None
    used_from: datetime | None = None  # listed before, signing from then on


@define
class PlatformKeys:
    """Who signs what. `public_key_percent` of the notifications go by the public key (R52)."""

    certificates: list[Signer]
    public: Signer
    public_key_only: bool
    public_key_percent: float
    chance: random.Random = field(repr=False)

    @classmethod
    def of(cls, credentials: Credentials, chance: random.Random) -> "PlatformKeys":
        """Those of an account, in the mode it was prepared for."""
        platform = credentials.platform
        return cls(
            certificates=[Signer(platform.serial, credentials.platform_key, platform)],
            public=Signer(credentials.public_key_id, credentials.public_key),
            public_key_only=credentials.public_key_mode,
            public_key_percent=100 if credentials.public_key_mode else 0,
            chance=chance,
        )

    def for_answer(self, asked: str, now: datetime) -> Signer:
        """The key a request's Wechatpay-Serial asks for; without one, the usual (v3.md section 2).

        Raise Refusal for a serial that is none of this merchant's.
        """
        if not asked:
            return self.usual(now)
        if asked == self.public.serial:
            return self.public
        if not self.public_key_only:
            for signer in self.certificates:
                if v3_wire.canonical(signer.serial) == v3_wire.canonical(asked):
                    return signer
        raise Refusal("PARAM_ERROR", "平台证书序列号Wechatpay-Serial错误", field="Wechatpay-Serial")

    def for_notification(self, now: datetime) -> Signer:
        """A notification names no wish: the mode decides, during a switch by chance."""
        by_public_key = self.chance.random() * 100 < self.public_key_percent
        return self.public if by_public_key else self.current(now)

    def usual(self, now: datetime) -> Signer:
        return self.public if self.public_key_only else self.current(now)

    def current(self, now: datetime) -> Signer:
        """The platform certificate that signs now: the last one whose time has come."""
        ready = [each for each in self.certificates if each.used_from is None or each.used_from <= now]
        return ready[-1]

    def rotate(self, used_from: datetime, now: datetime) -> Signer:
        """Add a platform certificate; it takes a moment to make its key."""
        key = make_key()
        certificate = v3_wire.load_certificate(make_certificate(key, "Tenpay.com", now))
        signer = Signer(certificate.serial, key, certificate, used_from)
        self.certificates.append(signer)
        return signer
