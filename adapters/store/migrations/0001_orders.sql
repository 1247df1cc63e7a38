-- Moments are microseconds since 1970 in UTC, amounts are fen.

CREATE TABLE orders (
  out_trade_no TEXT PRIMARY KEY,
  openid TEXT NOT NULL,
  total_fee BIGINT NOT NULL,
  body TEXT NOT NULL,
  attach TEXT NOT NULL,
  appid TEXT NOT NULL,
  mch_id TEXT NOT NULL,
  api_version TEXT NOT NULL,
  sign_type TEXT NOT NULL,
  notify_url TEXT NOT NULL,
  client_ip TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  expires_at BIGINT NOT NULL,
  status TEXT NOT NULL,
  prepay_id TEXT NOT NULL,
  prepaid_at BIGINT,
  transaction_id TEXT NOT NULL,
  paid_at BIGINT,
  late INTEGER NOT NULL,
  failure TEXT NOT NULL,
  version BIGINT NOT NULL
);

CREATE INDEX orders_of_openid ON orders (openid, created_at DESC, out_trade_no DESC);

CREATE INDEX orders_of_openid_by_status ON orders (openid, status, created_at DESC, out_trade_no DESC);

CREATE TABLE refunds (
  out_refund_no TEXT PRIMARY KEY,
  out_trade_no TEXT NOT NULL REFERENCES orders (out_trade_no),
  place INTEGER NOT NULL,
  refund_fee BIGINT NOT NULL,
  reason TEXT NOT NULL,
  refund_status TEXT NOT NULL,
  refund_id TEXT NOT NULL,
  refund_created_at BIGINT NOT NULL,
  success_at BIGINT,
  refund_failure TEXT NOT NULL,
  made_elsewhere INTEGER NOT NULL
);

CREATE UNIQUE INDEX refunds_of_order ON refunds (out_trade_no, place);

CREATE TABLE events (
  out_trade_no TEXT NOT NULL REFERENCES orders (out_trade_no),
  version BIGINT NOT NULL,
  name TEXT NOT NULL,
  at BIGINT NOT NULL,
  cause TEXT NOT NULL,
  facts TEXT NOT NULL,
  status_before TEXT,
  evidence TEXT NOT NULL,
  PRIMARY KEY (out_trade_no, version)
);

CREATE TABLE counters (
  status TEXT PRIMARY KEY,
  orders BIGINT NOT NULL
);

INSERT INTO counters (status, orders)
VALUES ('PENDING', 0), ('FAILED', 0), ('CANCELLED', 0), ('PAID', 0), ('REFUNDED', 0);

CREATE TABLE failures (
  kind TEXT NOT NULL,
  code TEXT NOT NULL,
  out_trade_no TEXT NOT NULL,
  detail TEXT NOT NULL,
  evidence TEXT NOT NULL,
  at BIGINT NOT NULL,
  count BIGINT NOT NULL,
  PRIMARY KEY (kind, code, out_trade_no)
);

CREATE INDEX failures_by_time ON failures (at DESC)
