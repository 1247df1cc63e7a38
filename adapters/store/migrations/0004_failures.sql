-- Evidence is kept for each failure, refused notifications and failed calls alike; id is made of kind, code, about.
-- What was kept before had no such id and was for a person to read: it is carried over under a name of its own.

CREATE TABLE failures_explained (
  id TEXT PRIMARY KEY,
  kind TEXT NOT NULL,
  code TEXT NOT NULL,
  about TEXT NOT NULL,
  detail TEXT NOT NULL,
  out_trade_no TEXT NOT NULL,
  serial TEXT NOT NULL,
  request_id TEXT NOT NULL,
  explanation TEXT NOT NULL,
  headers TEXT NOT NULL,
  evidence TEXT NOT NULL,
  at BIGINT NOT NULL,
  first_at BIGINT NOT NULL,
  count BIGINT NOT NULL,
  is_alarm INTEGER NOT NULL
);

INSERT INTO failures_explained (id, kind, code, about, detail, out_trade_no, serial, request_id, explanation, headers,
  evidence, at, first_at, count, is_alarm)
SELECT kind || '-' || code || '-' || out_trade_no, kind, code, out_trade_no, detail, out_trade_no, '', '', '', '{}',
  evidence, at, at, count, 1 FROM failures;

DROP TABLE failures;

ALTER TABLE failures_explained RENAME TO failures;

CREATE INDEX failures_by_time ON failures (at);

-- Orders of which nobody knows whether WeChat took them.

CREATE INDEX orders_unanswered ON orders (created_at) WHERE look_at IS NOT NULL AND prepay_id = ''
