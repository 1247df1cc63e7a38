-- API keys: the key itself is known to its holder alone, here is only its SHA-256.

CREATE TABLE api_keys (
  id TEXT PRIMARY KEY,
  digest TEXT NOT NULL UNIQUE,
  name TEXT NOT NULL,
  scopes TEXT NOT NULL,
  created_at BIGINT NOT NULL,
  last_used_at BIGINT,
  revoked_at BIGINT
);

CREATE INDEX api_keys_by_age ON api_keys (created_at, id);

-- The shop's quotes by which an order was made; one that has expired is refused anyway and forgotten.

CREATE TABLE quotes (
  id TEXT PRIMARY KEY,
  out_trade_no TEXT NOT NULL,
  expires_at BIGINT NOT NULL
);

CREATE INDEX quotes_by_expiry ON quotes (expires_at)
