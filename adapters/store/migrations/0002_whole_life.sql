-- When WeChat is asked next about an order or a refund; nothing there means never.
-- last_look_at and last_check_at tell when the last question was due: claims are handed out in that order.

ALTER TABLE orders ADD COLUMN look_at BIGINT;

ALTER TABLE orders ADD COLUMN last_look_at BIGINT;

ALTER TABLE orders ADD COLUMN looks INTEGER NOT NULL DEFAULT 0;

UPDATE orders SET look_at = created_at WHERE status = 'PENDING';

CREATE INDEX orders_to_look_at ON orders (look_at, out_trade_no) WHERE look_at IS NOT NULL;

CREATE INDEX orders_pending ON orders (created_at) WHERE look_at IS NOT NULL;

ALTER TABLE refunds ADD COLUMN check_at BIGINT;

ALTER TABLE refunds ADD COLUMN last_check_at BIGINT;

ALTER TABLE refunds ADD COLUMN checks INTEGER NOT NULL DEFAULT 0;

UPDATE refunds SET check_at = refund_created_at WHERE refund_status IN ('PROCESSING', 'ABNORMAL');

CREATE INDEX refunds_to_check ON refunds (check_at, out_refund_no) WHERE check_at IS NOT NULL;

CREATE INDEX refunds_of_status ON refunds (refund_status, refund_created_at DESC, out_refund_no DESC);

CREATE INDEX orders_of_status ON orders (status, out_trade_no DESC);

CREATE TABLE answers (
  caller TEXT NOT NULL,
  name TEXT NOT NULL,
  request_hash TEXT NOT NULL,
  number TEXT NOT NULL,
  status INTEGER NOT NULL,
  body TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (caller, name)
);

CREATE INDEX answers_by_time ON answers (at);

CREATE TABLE outbox (
  out_trade_no TEXT NOT NULL,
  version BIGINT NOT NULL,
  state TEXT NOT NULL,
  due_at BIGINT NOT NULL,
  event_at BIGINT NOT NULL,
  tries INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (out_trade_no, version),
  FOREIGN KEY (out_trade_no, version) REFERENCES events (out_trade_no, version)
);

CREATE INDEX outbox_of_order ON outbox (out_trade_no, state, version);

CREATE INDEX outbox_oldest ON outbox (state, event_at) WHERE state = 'WAITING';

CREATE INDEX outbox_of_state ON outbox (state, due_at, out_trade_no, version);

CREATE INDEX outbox_newest ON outbox (due_at, out_trade_no, version);

CREATE TABLE deliveries (
  out_trade_no TEXT NOT NULL,
  version BIGINT NOT NULL,
  attempt INTEGER NOT NULL,
  at BIGINT NOT NULL,
  heard INTEGER NOT NULL,
  status INTEGER,
  answer TEXT NOT NULL,
  error TEXT NOT NULL,
  milliseconds BIGINT NOT NULL,
  PRIMARY KEY (out_trade_no, at, version, attempt)
);

CREATE TABLE jobs (
  name TEXT PRIMARY KEY,
  holder TEXT NOT NULL,
  held_until BIGINT NOT NULL,
  last_run_at BIGINT,
  runs BIGINT NOT NULL DEFAULT 0,
  done BIGINT NOT NULL DEFAULT 0,
  failures BIGINT NOT NULL DEFAULT 0
)
