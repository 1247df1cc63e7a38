"""What was answered under which Idempotency-Key, in SQL."""

from datetime import datetime

from attrs import frozen

from adapters.store.engine import Engine, Step, micros, moment
from application.answers import PROMISED, Answer, Answers, KeyTaken

# A promise may become an answer, under its own number; an answer stays what it is.
REMEMBER = (
    "INSERT INTO answers (caller, name, request_hash, number, status, body, at)"
    " VALUES (:caller, :name, :request_hash, :number, :status, :body, :at)"
    " ON CONFLICT (caller, name) DO UPDATE SET status = excluded.status, body = excluded.body,"
    " at = excluded.at"
    " WHERE answers.status = 0 AND excluded.status <> 0 AND answers.number = excluded.number"
)
RECALL = (
    "SELECT caller, name, request_hash, number, status, body, at FROM answers"
    " WHERE caller = :caller AND name = :name"
)
FORGET = "DELETE FROM answers WHERE at < :before AND (status <> 0 OR at < :long_before) RETURNING number"


def remember(answer: Answer) -> Step:
    """The step that keeps the answer; refused if its key has another one."""
    values = {
        "caller": answer.caller,
        "name": answer.key,
        "request_hash": answer.request_hash,
        "number": answer.number,
        "status": answer.status,
        "body": answer.body.decode(),
        "at": micros(answer.at),
    }
    return Step(REMEMBER, values, KeyTaken(f"the key of {answer.number} has another answer"))


@frozen
class SqlAnswers(Answers):
    """Answers in a database."""

    engine: Engine

    async def recall(self, caller: str, key: str) -> Answer | None:
        for row in await self.engine.read(RECALL, {"caller": caller, "name": key}):
            caller, key, request_hash, number, status, body, at = row
            return Answer(
                caller=caller,
                key=key,
                request_hash=request_hash,
                number=number,
                status=status,
                body=body.encode(),
                at=moment(at),
            )
        return None

    async def remember(self, answer: Answer) -> None:
        await self.engine.write([remember(answer)])

    async def forget(self, before: datetime) -> int:
        values = {"before": micros(before), "long_before": micros(before - PROMISED)}
        return len(await self.engine.write([Step(FORGET, values)]))
