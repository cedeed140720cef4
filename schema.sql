-- The one definition of the database. `gateway migrate` applies the numbered migrations below, each in one
-- transaction with its record in `migrations`; an applied one is never edited again (its hash is recorded), what
-- comes later is a new number at the end.
--
-- Times are milliseconds since 1970 UTC. julianday() gives "now" because unixepoch('subsec') is NULL before SQLite
-- 3.42, and anybody's SQLite may write here. JSON columns hold an object.
--
-- Rules of the triggers: they are the only writers of change_log; an UPDATE that changes nothing logs nothing (IS
-- NOT, byte by byte also where the column is NOCASE); a row that moves from one owner to another logs both. They use
-- upserts only, and so must every writer: the row that a REPLACE deletes escapes them.

-- migration 1: identities, plans, quotas, organizations, credentials and the change log

CREATE TABLE meta(
  key TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE migrations(
  number INTEGER PRIMARY KEY,
  title TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  applied_at INTEGER NOT NULL
) STRICT;

-- One row a change: doc is the smallest thing that covers it. AUTOINCREMENT, so that seq never comes twice; one
-- writer at a time, so that seq order is commit order.
CREATE TABLE change_log(
  seq INTEGER PRIMARY KEY AUTOINCREMENT,
  doc TEXT NOT NULL,
  cause TEXT NOT NULL,
  at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
) STRICT;

-- Plans and roles

CREATE TABLE plans(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  name TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE plan_permissions(
  plan TEXT NOT NULL REFERENCES plans(id) ON DELETE CASCADE ON UPDATE CASCADE,
  permission TEXT NOT NULL CHECK (permission <> ''),
  PRIMARY KEY (plan, permission)
) STRICT, WITHOUT ROWID;

CREATE TABLE plan_quotas(
  plan TEXT NOT NULL REFERENCES plans(id) ON DELETE CASCADE ON UPDATE CASCADE,
  quota TEXT NOT NULL CHECK (quota <> ''),
  limit_value INTEGER CHECK (limit_value BETWEEN 0 AND 9007199254740991),
  period TEXT NOT NULL DEFAULT 'month' CHECK (period IN ('hour', 'day', 'week', 'month', 'year', 'never')),
  hard INTEGER NOT NULL DEFAULT 1 CHECK (hard IN (0, 1)),
  PRIMARY KEY (plan, quota)
) STRICT, WITHOUT ROWID;

CREATE TABLE roles(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  name TEXT NOT NULL DEFAULT ''
) STRICT;

CREATE TABLE role_permissions(
  role TEXT NOT NULL REFERENCES roles(id) ON DELETE CASCADE ON UPDATE CASCADE,
  permission TEXT NOT NULL CHECK (permission <> ''),
  PRIMARY KEY (role, permission)
) STRICT, WITHOUT ROWID;

-- Users

CREATE TABLE users(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  username TEXT NOT NULL COLLATE NOCASE UNIQUE CHECK (username <> ''),
  name TEXT NOT NULL DEFAULT '',
  email TEXT COLLATE NOCASE UNIQUE CHECK (email <> ''),
  plan TEXT NOT NULL REFERENCES plans(id) ON UPDATE CASCADE,
  is_admin INTEGER NOT NULL DEFAULT 0 CHECK (is_admin IN (0, 1)),
  status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
  attributes TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(attributes) AND json_type(attributes) = 'object'),
  timezone TEXT NOT NULL DEFAULT 'UTC' CHECK (timezone <> ''),
  anchor_at INTEGER,
  password_hash TEXT,
  created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
  updated_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
) STRICT;
CREATE INDEX users_by_plan ON users(plan);

CREATE TABLE user_roles(
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE,
  role TEXT NOT NULL REFERENCES roles(id) ON DELETE CASCADE ON UPDATE CASCADE,
  expires_at INTEGER,
  PRIMARY KEY (user_id, role)
) STRICT, WITHOUT ROWID;
CREATE INDEX user_roles_by_role ON user_roles(role);

-- An allow and a deny of one permission may stand side by side, each with its own dates.
CREATE TABLE user_permissions(
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE,
  permission TEXT NOT NULL CHECK (permission <> ''),
  effect TEXT NOT NULL DEFAULT 'allow' CHECK (effect IN ('allow', 'deny')),
  starts_at INTEGER,
  expires_at INTEGER,
  PRIMARY KEY (user_id, permission, effect)
) STRICT, WITHOUT ROWID;

CREATE TABLE user_quotas(
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE,
  quota TEXT NOT NULL CHECK (quota <> ''),
  limit_value INTEGER CHECK (limit_value BETWEEN 0 AND 9007199254740991),
  period TEXT NOT NULL DEFAULT 'month' CHECK (period IN ('hour', 'day', 'week', 'month', 'year', 'never')),
  hard INTEGER NOT NULL DEFAULT 1 CHECK (hard IN (0, 1)),
  starts_at INTEGER,
  expires_at INTEGER,
  PRIMARY KEY (user_id, quota)
) STRICT, WITHOUT ROWID;

-- owner is user:ID or org:ID, so no foreign key: the triggers of users and organizations keep it.
CREATE TABLE quota_usage(
  owner TEXT NOT NULL CHECK (owner GLOB 'user:?*' OR owner GLOB 'org:?*'),
  quota TEXT NOT NULL CHECK (quota <> ''),
  period_start INTEGER NOT NULL,
  used INTEGER NOT NULL DEFAULT 0 CHECK (used BETWEEN 0 AND 9007199254740991),
  reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved BETWEEN 0 AND 9007199254740991),
  PRIMARY KEY (owner, quota, period_start)
) STRICT, WITHOUT ROWID;

-- Organizations

CREATE TABLE organizations(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  name TEXT NOT NULL DEFAULT '',
  plan TEXT NOT NULL REFERENCES plans(id) ON UPDATE CASCADE,
  attributes TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(attributes) AND json_type(attributes) = 'object'),
  timezone TEXT NOT NULL DEFAULT 'UTC' CHECK (timezone <> ''),
  anchor_at INTEGER,
  status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
  created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
  updated_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
) STRICT;
CREATE INDEX organizations_by_plan ON organizations(plan);

CREATE TABLE memberships(
  org_id TEXT NOT NULL REFERENCES organizations(id) ON DELETE CASCADE ON UPDATE CASCADE,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE,
  role TEXT NOT NULL DEFAULT 'member' CHECK (role IN ('owner', 'admin', 'member')),
  created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
  PRIMARY KEY (org_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_by_user ON memberships(user_id);

CREATE TABLE org_role_permissions(
  role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
  permission TEXT NOT NULL CHECK (permission <> ''),
  PRIMARY KEY (role, permission)
) STRICT, WITHOUT ROWID;

-- Not tied to the membership's row: a cap must outlive a member who is removed and taken in again.
CREATE TABLE member_caps(
  org_id TEXT NOT NULL REFERENCES organizations(id) ON DELETE CASCADE ON UPDATE CASCADE,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE,
  quota TEXT NOT NULL CHECK (quota <> ''),
  limit_value INTEGER CHECK (limit_value BETWEEN 0 AND 9007199254740991),
  PRIMARY KEY (org_id, user_id, quota)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_caps_by_user ON member_caps(user_id);

-- Credentials

CREATE TABLE login_sessions(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE,
  created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
  expires_at INTEGER NOT NULL,
  revoked_at INTEGER,
  instance_id TEXT,
  ip TEXT,
  user_agent TEXT,
  last_seen_at INTEGER
) STRICT;
CREATE INDEX login_sessions_by_user ON login_sessions(user_id);

CREATE TABLE api_tokens(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE,
  name TEXT NOT NULL DEFAULT '',
  token_hash TEXT NOT NULL UNIQUE CHECK (token_hash <> ''),
  scopes TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(scopes) AND json_type(scopes) = 'object'),
  created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
  expires_at INTEGER,
  revoked_at INTEGER,
  last_used_at INTEGER
) STRICT;
CREATE INDEX api_tokens_by_user ON api_tokens(user_id);

-- Private: every credential that was revoked or deleted, kept by the triggers of the two tables above. No foreign
-- keys: it outlives its user.
CREATE TABLE revocations(
  id TEXT NOT NULL PRIMARY KEY,
  kind TEXT NOT NULL CHECK (kind IN ('login_session', 'api_token')),
  user_id TEXT NOT NULL,
  expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX revocations_by_expiry ON revocations(expires_at);

-- Deleting a parent takes its children along whether the writer's connection has foreign keys on (the cascades above)
-- or not (SQLite's default): a deleted user must not leave a living credential behind.

CREATE TRIGGER plans_children BEFORE DELETE ON plans BEGIN
  DELETE FROM plan_permissions WHERE plan = OLD.id;
  DELETE FROM plan_quotas WHERE plan = OLD.id;
END;
CREATE TRIGGER roles_children BEFORE DELETE ON roles BEGIN
  DELETE FROM role_permissions WHERE role = OLD.id;
  DELETE FROM user_roles WHERE role = OLD.id;
END;
CREATE TRIGGER users_children BEFORE DELETE ON users BEGIN
  DELETE FROM login_sessions WHERE user_id = OLD.id;
  DELETE FROM api_tokens WHERE user_id = OLD.id;
  DELETE FROM user_roles WHERE user_id = OLD.id;
  DELETE FROM user_permissions WHERE user_id = OLD.id;
  DELETE FROM user_quotas WHERE user_id = OLD.id;
  DELETE FROM member_caps WHERE user_id = OLD.id;
  DELETE FROM memberships WHERE user_id = OLD.id;
  DELETE FROM quota_usage WHERE owner = 'user:' || OLD.id;
END;
CREATE TRIGGER organizations_children BEFORE DELETE ON organizations BEGIN
  DELETE FROM member_caps WHERE org_id = OLD.id;
  DELETE FROM memberships WHERE org_id = OLD.id;
  DELETE FROM quota_usage WHERE owner = 'org:' || OLD.id;
END;

-- The change log: one cause a row

CREATE TRIGGER users_insert AFTER INSERT ON users BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.id, 'profile');
END;
CREATE TRIGGER users_delete AFTER DELETE ON users BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.id, 'profile');
END;
-- updated_at moves by itself when the writer did not set it. That UPDATE does not come back here: SQLite does not run
-- a trigger inside itself (recursive_triggers is off unless asked for, and then the only effect is one more row).
CREATE TRIGGER users_update AFTER UPDATE ON users
WHEN (NEW.id, NEW.username COLLATE BINARY, NEW.name, NEW.email COLLATE BINARY, NEW.plan, NEW.is_admin, NEW.status,
    NEW.attributes, NEW.timezone, NEW.anchor_at, NEW.password_hash, NEW.created_at, NEW.updated_at)
  IS NOT (OLD.id, OLD.username, OLD.name, OLD.email, OLD.plan, OLD.is_admin, OLD.status,
    OLD.attributes, OLD.timezone, OLD.anchor_at, OLD.password_hash, OLD.created_at, OLD.updated_at) BEGIN
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.id, 'status' WHERE NEW.status IS NOT OLD.status;
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.id, 'plan' WHERE NEW.plan IS NOT OLD.plan;
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.id, 'profile'
    WHERE (NEW.id, NEW.username COLLATE BINARY, NEW.name, NEW.email COLLATE BINARY, NEW.is_admin, NEW.attributes,
        NEW.timezone, NEW.anchor_at, NEW.password_hash, NEW.created_at, NEW.updated_at)
      IS NOT (OLD.id, OLD.username, OLD.name, OLD.email, OLD.is_admin, OLD.attributes,
        OLD.timezone, OLD.anchor_at, OLD.password_hash, OLD.created_at, OLD.updated_at);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.id, 'profile' WHERE OLD.id IS NOT NEW.id;
  UPDATE quota_usage SET owner = 'user:' || NEW.id WHERE owner = 'user:' || OLD.id AND OLD.id IS NOT NEW.id;
  UPDATE users SET updated_at = CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)
    WHERE id = NEW.id AND NEW.updated_at IS OLD.updated_at;
END;

CREATE TRIGGER organizations_insert AFTER INSERT ON organizations BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('org:' || NEW.id, 'organization');
END;
CREATE TRIGGER organizations_delete AFTER DELETE ON organizations BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('org:' || OLD.id, 'organization');
END;
CREATE TRIGGER organizations_update AFTER UPDATE ON organizations
WHEN (NEW.id, NEW.name, NEW.plan, NEW.attributes, NEW.timezone, NEW.anchor_at, NEW.status,
    NEW.created_at, NEW.updated_at)
  IS NOT (OLD.id, OLD.name, OLD.plan, OLD.attributes, OLD.timezone, OLD.anchor_at, OLD.status,
    OLD.created_at, OLD.updated_at) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('org:' || NEW.id, 'organization');
  INSERT INTO change_log(doc, cause) SELECT 'org:' || NEW.id, 'plan' WHERE NEW.plan IS NOT OLD.plan;
  INSERT INTO change_log(doc, cause) SELECT 'org:' || OLD.id, 'organization' WHERE OLD.id IS NOT NEW.id;
  UPDATE quota_usage SET owner = 'org:' || NEW.id WHERE owner = 'org:' || OLD.id AND OLD.id IS NOT NEW.id;
  UPDATE organizations SET updated_at = CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)
    WHERE id = NEW.id AND NEW.updated_at IS OLD.updated_at;
END;

CREATE TRIGGER plan_permissions_insert AFTER INSERT ON plan_permissions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || NEW.plan, 'permissions');
END;
CREATE TRIGGER plan_permissions_delete AFTER DELETE ON plan_permissions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || OLD.plan, 'permissions');
END;
CREATE TRIGGER plan_permissions_update AFTER UPDATE ON plan_permissions
WHEN (NEW.plan, NEW.permission) IS NOT (OLD.plan, OLD.permission) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || NEW.plan, 'permissions');
  INSERT INTO change_log(doc, cause) SELECT 'plan:' || OLD.plan, 'permissions' WHERE OLD.plan IS NOT NEW.plan;
END;

CREATE TRIGGER plan_quotas_insert AFTER INSERT ON plan_quotas BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || NEW.plan, 'quota_limit');
END;
CREATE TRIGGER plan_quotas_delete AFTER DELETE ON plan_quotas BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || OLD.plan, 'quota_limit');
END;
CREATE TRIGGER plan_quotas_update AFTER UPDATE ON plan_quotas
WHEN (NEW.plan, NEW.quota, NEW.limit_value, NEW.period, NEW.hard)
  IS NOT (OLD.plan, OLD.quota, OLD.limit_value, OLD.period, OLD.hard) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || NEW.plan, 'quota_limit');
  INSERT INTO change_log(doc, cause) SELECT 'plan:' || OLD.plan, 'quota_limit' WHERE OLD.plan IS NOT NEW.plan;
END;

CREATE TRIGGER plans_insert AFTER INSERT ON plans BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || NEW.id, 'plan');
END;
CREATE TRIGGER plans_delete AFTER DELETE ON plans BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || OLD.id, 'plan');
END;
CREATE TRIGGER plans_update AFTER UPDATE ON plans
WHEN (NEW.id, NEW.name) IS NOT (OLD.id, OLD.name) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('plan:' || NEW.id, 'plan');
  INSERT INTO change_log(doc, cause) SELECT 'plan:' || OLD.id, 'plan' WHERE OLD.id IS NOT NEW.id;
END;

CREATE TRIGGER roles_insert AFTER INSERT ON roles BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:' || NEW.id, 'roles');
END;
CREATE TRIGGER roles_delete AFTER DELETE ON roles BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:' || OLD.id, 'roles');
END;
CREATE TRIGGER roles_update AFTER UPDATE ON roles
WHEN (NEW.id, NEW.name) IS NOT (OLD.id, OLD.name) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:' || NEW.id, 'roles');
  INSERT INTO change_log(doc, cause) SELECT 'role:' || OLD.id, 'roles' WHERE OLD.id IS NOT NEW.id;
END;

CREATE TRIGGER role_permissions_insert AFTER INSERT ON role_permissions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:' || NEW.role, 'permissions');
END;
CREATE TRIGGER role_permissions_delete AFTER DELETE ON role_permissions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:' || OLD.role, 'permissions');
END;
CREATE TRIGGER role_permissions_update AFTER UPDATE ON role_permissions
WHEN (NEW.role, NEW.permission) IS NOT (OLD.role, OLD.permission) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:' || NEW.role, 'permissions');
  INSERT INTO change_log(doc, cause) SELECT 'role:' || OLD.role, 'permissions' WHERE OLD.role IS NOT NEW.role;
END;

CREATE TRIGGER user_roles_insert AFTER INSERT ON user_roles BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'roles');
END;
CREATE TRIGGER user_roles_delete AFTER DELETE ON user_roles BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.user_id, 'roles');
END;
CREATE TRIGGER user_roles_update AFTER UPDATE ON user_roles
WHEN (NEW.user_id, NEW.role, NEW.expires_at) IS NOT (OLD.user_id, OLD.role, OLD.expires_at) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'roles');
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'roles' WHERE OLD.user_id IS NOT NEW.user_id;
END;

CREATE TRIGGER user_permissions_insert AFTER INSERT ON user_permissions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'permissions');
END;
CREATE TRIGGER user_permissions_delete AFTER DELETE ON user_permissions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.user_id, 'permissions');
END;
CREATE TRIGGER user_permissions_update AFTER UPDATE ON user_permissions
WHEN (NEW.user_id, NEW.permission, NEW.effect, NEW.starts_at, NEW.expires_at)
  IS NOT (OLD.user_id, OLD.permission, OLD.effect, OLD.starts_at, OLD.expires_at) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'permissions');
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'permissions' WHERE OLD.user_id IS NOT NEW.user_id;
END;

CREATE TRIGGER user_quotas_insert AFTER INSERT ON user_quotas BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'quota_limit');
END;
CREATE TRIGGER user_quotas_delete AFTER DELETE ON user_quotas BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.user_id, 'quota_limit');
END;
CREATE TRIGGER user_quotas_update AFTER UPDATE ON user_quotas
WHEN (NEW.user_id, NEW.quota, NEW.limit_value, NEW.period, NEW.hard, NEW.starts_at, NEW.expires_at)
  IS NOT (OLD.user_id, OLD.quota, OLD.limit_value, OLD.period, OLD.hard, OLD.starts_at, OLD.expires_at) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'quota_limit');
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'quota_limit' WHERE OLD.user_id IS NOT NEW.user_id;
END;

CREATE TRIGGER quota_usage_insert AFTER INSERT ON quota_usage BEGIN
  INSERT INTO change_log(doc, cause) VALUES (NEW.owner, 'quota_usage');
END;
CREATE TRIGGER quota_usage_delete AFTER DELETE ON quota_usage BEGIN
  INSERT INTO change_log(doc, cause) VALUES (OLD.owner, 'quota_usage');
END;
CREATE TRIGGER quota_usage_update AFTER UPDATE ON quota_usage
WHEN (NEW.owner, NEW.quota, NEW.period_start, NEW.used, NEW.reserved)
  IS NOT (OLD.owner, OLD.quota, OLD.period_start, OLD.used, OLD.reserved) BEGIN
  INSERT INTO change_log(doc, cause) VALUES (NEW.owner, 'quota_usage');
  INSERT INTO change_log(doc, cause) SELECT OLD.owner, 'quota_usage' WHERE OLD.owner IS NOT NEW.owner;
END;

CREATE TRIGGER org_role_permissions_insert AFTER INSERT ON org_role_permissions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:org.' || NEW.role, 'permissions');
END;
CREATE TRIGGER org_role_permissions_delete AFTER DELETE ON org_role_permissions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:org.' || OLD.role, 'permissions');
END;
CREATE TRIGGER org_role_permissions_update AFTER UPDATE ON org_role_permissions
WHEN (NEW.role, NEW.permission) IS NOT (OLD.role, OLD.permission) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('role:org.' || NEW.role, 'permissions');
  INSERT INTO change_log(doc, cause) SELECT 'role:org.' || OLD.role, 'permissions' WHERE OLD.role IS NOT NEW.role;
END;

CREATE TRIGGER member_caps_insert AFTER INSERT ON member_caps BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'quota_limit');
END;
CREATE TRIGGER member_caps_delete AFTER DELETE ON member_caps BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.user_id, 'quota_limit');
END;
CREATE TRIGGER member_caps_update AFTER UPDATE ON member_caps
WHEN (NEW.org_id, NEW.user_id, NEW.quota, NEW.limit_value)
  IS NOT (OLD.org_id, OLD.user_id, OLD.quota, OLD.limit_value) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'quota_limit');
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'quota_limit' WHERE OLD.user_id IS NOT NEW.user_id;
END;

CREATE TRIGGER memberships_insert AFTER INSERT ON memberships BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'organization');
  INSERT INTO change_log(doc, cause) VALUES ('org:' || NEW.org_id, 'organization');
END;
CREATE TRIGGER memberships_delete AFTER DELETE ON memberships BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.user_id, 'organization');
  INSERT INTO change_log(doc, cause) VALUES ('org:' || OLD.org_id, 'organization');
END;
CREATE TRIGGER memberships_update AFTER UPDATE ON memberships
WHEN (NEW.org_id, NEW.user_id, NEW.role, NEW.created_at)
  IS NOT (OLD.org_id, OLD.user_id, OLD.role, OLD.created_at) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'organization');
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'organization' WHERE OLD.user_id IS NOT NEW.user_id;
  INSERT INTO change_log(doc, cause) VALUES ('org:' || NEW.org_id, 'organization');
  INSERT INTO change_log(doc, cause) SELECT 'org:' || OLD.org_id, 'organization' WHERE OLD.org_id IS NOT NEW.org_id;
END;

CREATE TRIGGER login_sessions_insert AFTER INSERT ON login_sessions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'revocation');
  INSERT INTO change_log(doc, cause) SELECT 'revocations', 'revocation'
    WHERE NEW.revoked_at IS NOT NULL OR EXISTS (SELECT 1 FROM revocations WHERE id = NEW.id);
  DELETE FROM revocations WHERE id = NEW.id AND NEW.revoked_at IS NULL;
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT NEW.id, 'login_session', NEW.user_id, NEW.expires_at WHERE NEW.revoked_at IS NOT NULL
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
END;
CREATE TRIGGER login_sessions_update AFTER UPDATE ON login_sessions BEGIN
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'revocation'
    WHERE (NEW.id, NEW.user_id, NEW.expires_at, NEW.revoked_at)
      IS NOT (OLD.id, OLD.user_id, OLD.expires_at, OLD.revoked_at);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'revocation' WHERE OLD.user_id IS NOT NEW.user_id;
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'profile'
    WHERE (NEW.created_at, NEW.instance_id, NEW.ip, NEW.user_agent, NEW.last_seen_at)
      IS NOT (OLD.created_at, OLD.instance_id, OLD.ip, OLD.user_agent, OLD.last_seen_at);
  INSERT INTO change_log(doc, cause) SELECT 'revocations', 'revocation'
    WHERE (NEW.revoked_at IS NULL) <> (OLD.revoked_at IS NULL) OR NEW.id IS NOT OLD.id
      OR (NEW.revoked_at IS NOT NULL AND NEW.expires_at IS NOT OLD.expires_at);
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT OLD.id, 'login_session', OLD.user_id, OLD.expires_at WHERE NEW.id IS NOT OLD.id
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
  DELETE FROM revocations WHERE id = NEW.id AND NEW.revoked_at IS NULL
    AND (OLD.revoked_at IS NOT NULL OR NEW.id IS NOT OLD.id);
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT NEW.id, 'login_session', NEW.user_id, NEW.expires_at WHERE NEW.revoked_at IS NOT NULL
      AND (OLD.revoked_at IS NULL OR (NEW.id, NEW.user_id, NEW.expires_at) IS NOT (OLD.id, OLD.user_id, OLD.expires_at))
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
END;
CREATE TRIGGER login_sessions_delete AFTER DELETE ON login_sessions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.user_id, 'revocation');
  INSERT INTO change_log(doc, cause) VALUES ('revocations', 'revocation');
  INSERT INTO revocations(id, kind, user_id, expires_at) VALUES (OLD.id, 'login_session', OLD.user_id, OLD.expires_at)
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
END;

CREATE TRIGGER api_tokens_insert AFTER INSERT ON api_tokens BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'revocation');
  INSERT INTO change_log(doc, cause) SELECT 'revocations', 'revocation'
    WHERE NEW.revoked_at IS NOT NULL OR EXISTS (SELECT 1 FROM revocations WHERE id = NEW.id);
  DELETE FROM revocations WHERE id = NEW.id AND NEW.revoked_at IS NULL;
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT NEW.id, 'api_token', NEW.user_id, NEW.expires_at WHERE NEW.revoked_at IS NOT NULL
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
END;
CREATE TRIGGER api_tokens_update AFTER UPDATE ON api_tokens BEGIN
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'revocation'
    WHERE (NEW.id, NEW.user_id, NEW.token_hash, NEW.scopes, NEW.expires_at, NEW.revoked_at)
      IS NOT (OLD.id, OLD.user_id, OLD.token_hash, OLD.scopes, OLD.expires_at, OLD.revoked_at);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'revocation' WHERE OLD.user_id IS NOT NEW.user_id;
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'profile'
    WHERE (NEW.name, NEW.created_at, NEW.last_used_at)
      IS NOT (OLD.name, OLD.created_at, OLD.last_used_at);
  INSERT INTO change_log(doc, cause) SELECT 'revocations', 'revocation'
    WHERE (NEW.revoked_at IS NULL) <> (OLD.revoked_at IS NULL) OR NEW.id IS NOT OLD.id
      OR (NEW.revoked_at IS NOT NULL AND NEW.expires_at IS NOT OLD.expires_at);
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT OLD.id, 'api_token', OLD.user_id, OLD.expires_at WHERE NEW.id IS NOT OLD.id
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
  DELETE FROM revocations WHERE id = NEW.id AND NEW.revoked_at IS NULL
    AND (OLD.revoked_at IS NOT NULL OR NEW.id IS NOT OLD.id);
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT NEW.id, 'api_token', NEW.user_id, NEW.expires_at WHERE NEW.revoked_at IS NOT NULL
      AND (OLD.revoked_at IS NULL OR (NEW.id, NEW.user_id, NEW.expires_at) IS NOT (OLD.id, OLD.user_id, OLD.expires_at))
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
END;
CREATE TRIGGER api_tokens_delete AFTER DELETE ON api_tokens BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.user_id, 'revocation');
  INSERT INTO change_log(doc, cause) VALUES ('revocations', 'revocation');
  INSERT INTO revocations(id, kind, user_id, expires_at) VALUES (OLD.id, 'api_token', OLD.user_id, OLD.expires_at)
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
END;

-- migration 2: nodes, writers and the use of credentials

-- Private: the number of the last group of writes that each process committed on a libSQL server; `found` is the one
-- that its last fence found. It answers what a connection that broke during a commit left open.
CREATE TABLE writers(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  batch INTEGER NOT NULL,
  found INTEGER NOT NULL DEFAULT 0,
  at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Private: the nodes that live. Each one counts its `beat` up every few seconds; the others look at whether it moves,
-- never at the times, which come from that node's clock.
CREATE TABLE nodes(
  name TEXT NOT NULL PRIMARY KEY CHECK (name <> ''),
  version TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  seen_at INTEGER NOT NULL,
  beat INTEGER NOT NULL DEFAULT 1,
  epoch TEXT NOT NULL,
  position INTEGER NOT NULL,
  sessions INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Private: sessions of users who have many, so that all nodes together keep to the limit. Most users are never here.
CREATE TABLE node_sessions(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  user_id TEXT NOT NULL,
  node TEXT NOT NULL REFERENCES nodes(name) ON DELETE CASCADE,
  opened_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX node_sessions_by_user ON node_sessions(user_id);
CREATE INDEX node_sessions_by_node ON node_sessions(node);

CREATE TRIGGER nodes_children BEFORE DELETE ON nodes BEGIN
  DELETE FROM node_sessions WHERE node = OLD.name;
END;

-- Calls upon the other nodes to register theirs of the same user. A session less needs nobody to do anything.
CREATE TRIGGER node_sessions_insert AFTER INSERT ON node_sessions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('sessions:' || NEW.user_id, 'sessions');
END;

-- When a credential was used last is a cause of its own: a storm of reconnects logs it for every user, and nothing that
-- anybody is shown hangs on it. All else is as in migration 1.
DROP TRIGGER login_sessions_update;
CREATE TRIGGER login_sessions_update AFTER UPDATE ON login_sessions BEGIN
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'revocation'
    WHERE (NEW.id, NEW.user_id, NEW.expires_at, NEW.revoked_at)
      IS NOT (OLD.id, OLD.user_id, OLD.expires_at, OLD.revoked_at);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'revocation' WHERE OLD.user_id IS NOT NEW.user_id;
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'profile'
    WHERE (NEW.created_at, NEW.instance_id, NEW.ip, NEW.user_agent)
      IS NOT (OLD.created_at, OLD.instance_id, OLD.ip, OLD.user_agent);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'use'
    WHERE NEW.last_seen_at IS NOT OLD.last_seen_at;
  INSERT INTO change_log(doc, cause) SELECT 'revocations', 'revocation'
    WHERE (NEW.revoked_at IS NULL) <> (OLD.revoked_at IS NULL) OR NEW.id IS NOT OLD.id
      OR (NEW.revoked_at IS NOT NULL AND NEW.expires_at IS NOT OLD.expires_at);
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT OLD.id, 'login_session', OLD.user_id, OLD.expires_at WHERE NEW.id IS NOT OLD.id
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
  DELETE FROM revocations WHERE id = NEW.id AND NEW.revoked_at IS NULL
    AND (OLD.revoked_at IS NOT NULL OR NEW.id IS NOT OLD.id);
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT NEW.id, 'login_session', NEW.user_id, NEW.expires_at WHERE NEW.revoked_at IS NOT NULL
      AND (OLD.revoked_at IS NULL OR (NEW.id, NEW.user_id, NEW.expires_at) IS NOT (OLD.id, OLD.user_id, OLD.expires_at))
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
END;
DROP TRIGGER api_tokens_update;
CREATE TRIGGER api_tokens_update AFTER UPDATE ON api_tokens BEGIN
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'revocation'
    WHERE (NEW.id, NEW.user_id, NEW.token_hash, NEW.scopes, NEW.expires_at, NEW.revoked_at)
      IS NOT (OLD.id, OLD.user_id, OLD.token_hash, OLD.scopes, OLD.expires_at, OLD.revoked_at);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'revocation' WHERE OLD.user_id IS NOT NEW.user_id;
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'profile'
    WHERE (NEW.name, NEW.created_at) IS NOT (OLD.name, OLD.created_at);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'use'
    WHERE NEW.last_used_at IS NOT OLD.last_used_at;
  INSERT INTO change_log(doc, cause) SELECT 'revocations', 'revocation'
    WHERE (NEW.revoked_at IS NULL) <> (OLD.revoked_at IS NULL) OR NEW.id IS NOT OLD.id
      OR (NEW.revoked_at IS NOT NULL AND NEW.expires_at IS NOT OLD.expires_at);
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT OLD.id, 'api_token', OLD.user_id, OLD.expires_at WHERE NEW.id IS NOT OLD.id
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
  DELETE FROM revocations WHERE id = NEW.id AND NEW.revoked_at IS NULL
    AND (OLD.revoked_at IS NOT NULL OR NEW.id IS NOT OLD.id);
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT NEW.id, 'api_token', NEW.user_id, NEW.expires_at WHERE NEW.revoked_at IS NOT NULL
      AND (OLD.revoked_at IS NULL OR (NEW.id, NEW.user_id, NEW.expires_at) IS NOT (OLD.id, OLD.user_id, OLD.expires_at))
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind, user_id = excluded.user_id, expires_at = excluded.expires_at;
END;

-- migration 3: accounts: signing keys, refresh tokens, tickets, failed logins and the audit trail

-- Private: the keys that sign access tokens. `private_key` is sealed with the master key. Of those whose `signs_from` has
-- come, the one that verifies longest signs; each verifies until `verifies_until` (NULL: no end yet). `public_key` is a
-- JSON Web Key (RFC 8037).
CREATE TABLE signing_keys(
  kid TEXT NOT NULL PRIMARY KEY CHECK (kid <> ''),
  public_key TEXT NOT NULL CHECK (json_valid(public_key) AND json_type(public_key) = 'object'),
  private_key BLOB NOT NULL,
  created_at INTEGER NOT NULL,
  signs_from INTEGER NOT NULL,
  verifies_until INTEGER
) STRICT, WITHOUT ROWID;

-- Private: one row for each refresh token ever given in a login session. One that was used stays: `salt` leads from its
-- text to its successor's for as long as the grace lasts, and whoever shows it later gives the session away.
CREATE TABLE refresh_tokens(
  token_hash TEXT NOT NULL PRIMARY KEY CHECK (token_hash <> ''),
  session_id TEXT NOT NULL REFERENCES login_sessions(id) ON DELETE CASCADE ON UPDATE CASCADE,
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  used_at INTEGER,
  salt BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX refresh_tokens_by_session ON refresh_tokens(session_id);
CREATE INDEX refresh_tokens_by_expiry ON refresh_tokens(expires_at);
CREATE INDEX refresh_tokens_salted ON refresh_tokens(used_at) WHERE salt IS NOT NULL;

-- Private: tickets that were redeemed, until they would have ended anyway.
CREATE TABLE used_tickets(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX used_tickets_by_expiry ON used_tickets(expires_at);

-- Private: failed logins by what they count against (an account, a device, an address, all), until `until`.
CREATE TABLE login_failures(
  counted TEXT NOT NULL PRIMARY KEY CHECK (counted <> ''),
  failures INTEGER NOT NULL,
  until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX login_failures_by_end ON login_failures(until);

-- Private: who did what to whom, from where, and how it came out. Rows are added, and pruned by age; nothing changes
-- one. `before` and `after` are what an administrative change found and left, without secrets.
CREATE TABLE audit(
  id INTEGER PRIMARY KEY AUTOINCREMENT CHECK (id > 0),
  at INTEGER NOT NULL,
  actor TEXT NOT NULL,
  action TEXT NOT NULL,
  target TEXT NOT NULL,
  address TEXT NOT NULL,
  outcome TEXT NOT NULL,
  before TEXT CHECK (before IS NULL OR json_valid(before)),
  after TEXT CHECK (after IS NULL OR json_valid(after))
) STRICT;
CREATE INDEX audit_by_target ON audit(target, id);
CREATE INDEX audit_by_actor ON audit(actor, id);
CREATE INDEX audit_by_action ON audit(action, id);
CREATE INDEX audit_by_moment ON audit(at);

CREATE TRIGGER audit_is_not_rewritten BEFORE UPDATE ON audit BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
-- The row that a REPLACE deletes escapes the trigger below. Without an id in the INSERT, NEW.id is -1 here.
CREATE TRIGGER audit_is_not_replaced BEFORE INSERT ON audit
WHEN EXISTS (SELECT 1 FROM audit WHERE id = NEW.id) BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;
-- What is pruned is older than the moment in meta that the pruning itself writes down.
CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
WHEN OLD.at >= coalesce((SELECT CAST(value AS INTEGER) FROM meta WHERE key = 'audit_pruned_before'), OLD.at) BEGIN
  SELECT RAISE(ABORT, 'the audit trail is append-only');
END;

CREATE TRIGGER login_sessions_children BEFORE DELETE ON login_sessions BEGIN
  DELETE FROM refresh_tokens WHERE session_id = OLD.id;
END;

-- Access tokens are checked without a look at the session's row: `revocations` has to name every pair of a session and
-- a user that a token in force may name and that stands for nothing now, until the latest end that the token may have.
-- An id stays its first user's, who alone has tokens with it: the row of a session that was moved to another user goes
-- on naming the first one, and the session is revoked whatever is written. An end that is moved into the past leaves
-- tokens behind that end later.
DROP TRIGGER login_sessions_insert;
CREATE TRIGGER login_sessions_insert AFTER INSERT ON login_sessions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'revocation');
  INSERT INTO change_log(doc, cause) SELECT 'revocations', 'revocation'
    WHERE NEW.revoked_at IS NOT NULL OR EXISTS (SELECT 1 FROM revocations WHERE id = NEW.id);
  DELETE FROM revocations WHERE id = NEW.id AND NEW.revoked_at IS NULL
    AND (kind <> 'login_session' OR (user_id = NEW.user_id AND expires_at <= NEW.expires_at));
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT NEW.id, 'login_session', NEW.user_id, NEW.expires_at WHERE NEW.revoked_at IS NOT NULL
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind,
      user_id = CASE kind WHEN excluded.kind THEN user_id ELSE excluded.user_id END,
      expires_at = coalesce(max(expires_at, excluded.expires_at), excluded.expires_at);
  UPDATE login_sessions SET revoked_at = CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)
    WHERE id = NEW.id AND revoked_at IS NULL AND EXISTS (SELECT 1 FROM revocations AS r
      WHERE r.id = NEW.id AND r.kind = 'login_session' AND r.user_id IS NOT NEW.user_id);
END;
DROP TRIGGER login_sessions_update;
CREATE TRIGGER login_sessions_update AFTER UPDATE ON login_sessions BEGIN
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'revocation'
    WHERE (NEW.id, NEW.user_id, NEW.expires_at, NEW.revoked_at)
      IS NOT (OLD.id, OLD.user_id, OLD.expires_at, OLD.revoked_at);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || OLD.user_id, 'revocation' WHERE OLD.user_id IS NOT NEW.user_id;
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'profile'
    WHERE (NEW.created_at, NEW.instance_id, NEW.ip, NEW.user_agent)
      IS NOT (OLD.created_at, OLD.instance_id, OLD.ip, OLD.user_agent);
  INSERT INTO change_log(doc, cause) SELECT 'user:' || NEW.user_id, 'use'
    WHERE NEW.last_seen_at IS NOT OLD.last_seen_at;
  INSERT INTO change_log(doc, cause) SELECT 'revocations', 'revocation'
    WHERE (NEW.revoked_at IS NULL) <> (OLD.revoked_at IS NULL) OR (NEW.id, NEW.user_id) IS NOT (OLD.id, OLD.user_id)
      OR (NEW.revoked_at IS NOT NULL AND NEW.expires_at IS NOT OLD.expires_at)
      OR (NEW.expires_at > OLD.expires_at AND EXISTS (SELECT 1 FROM revocations WHERE id = NEW.id))
      OR (NEW.expires_at < OLD.expires_at
        AND NEW.expires_at <= CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER));
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT OLD.id, 'login_session', OLD.user_id, OLD.expires_at WHERE NEW.id IS NOT OLD.id
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind,
      user_id = CASE kind WHEN excluded.kind THEN user_id ELSE excluded.user_id END,
      expires_at = coalesce(max(expires_at, excluded.expires_at), excluded.expires_at);
  DELETE FROM revocations WHERE id = NEW.id AND NEW.revoked_at IS NULL
    AND (kind <> 'login_session' OR (user_id = NEW.user_id AND expires_at <= NEW.expires_at));
  INSERT INTO revocations(id, kind, user_id, expires_at)
    SELECT NEW.id, 'login_session', OLD.user_id, max(OLD.expires_at, NEW.expires_at)
    WHERE NEW.user_id IS NOT OLD.user_id
      OR (NEW.revoked_at IS NOT NULL
        AND (OLD.revoked_at IS NULL OR (NEW.id, NEW.expires_at) IS NOT (OLD.id, OLD.expires_at)))
      OR (NEW.expires_at < OLD.expires_at
        AND NEW.expires_at <= CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind,
      user_id = CASE kind WHEN excluded.kind THEN user_id ELSE excluded.user_id END,
      expires_at = coalesce(max(expires_at, excluded.expires_at), excluded.expires_at);
  UPDATE login_sessions
    SET revoked_at = coalesce(OLD.revoked_at, CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
    WHERE id = NEW.id AND revoked_at IS NULL AND EXISTS (SELECT 1 FROM revocations AS r
      WHERE r.id = NEW.id AND r.kind = 'login_session' AND r.user_id IS NOT NEW.user_id);
END;
DROP TRIGGER login_sessions_delete;
CREATE TRIGGER login_sessions_delete AFTER DELETE ON login_sessions BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || OLD.user_id, 'revocation');
  INSERT INTO change_log(doc, cause) VALUES ('revocations', 'revocation');
  INSERT INTO revocations(id, kind, user_id, expires_at) VALUES (OLD.id, 'login_session', OLD.user_id, OLD.expires_at)
    ON CONFLICT(id) DO UPDATE SET kind = excluded.kind,
      user_id = CASE kind WHEN excluded.kind THEN user_id ELSE excluded.user_id END,
      expires_at = coalesce(max(expires_at, excluded.expires_at), excluded.expires_at);
END;

CREATE TRIGGER signing_keys_insert AFTER INSERT ON signing_keys BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('keys', 'keys');
END;
CREATE TRIGGER signing_keys_update AFTER UPDATE ON signing_keys
WHEN (NEW.kid, NEW.public_key, NEW.created_at, NEW.signs_from, NEW.verifies_until)
  IS NOT (OLD.kid, OLD.public_key, OLD.created_at, OLD.signs_from, OLD.verifies_until) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('keys', 'keys');
END;
CREATE TRIGGER signing_keys_delete AFTER DELETE ON signing_keys BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('keys', 'keys');
END;

-- Which users' credentials a round of the change log has to look up, and which ended long ago.
CREATE INDEX revocations_by_user ON revocations(user_id);
CREATE INDEX login_sessions_by_end ON login_sessions(expires_at);

-- migration 4: quotas that are spent: the ledger, leases and what members took of a pool

-- Private: one row for whatever moved a balance. Their sum by (owner, quota, period_start) is the row of quota_usage,
-- and `used_after`, `reserved_after` are what that row held then. `spender` and `key` make a consumption idempotent;
-- for the same answer again there is what the other rows of the period held (`carried_used`, `carried_reserved`), the
-- limits (`limit_value`, `hard`, and `cap`, the spending member's), what that member had taken of the pool
-- (`member_taken`), and the position of the change log that shows it (`seq`): that of the balance, where a lease ends,
-- after which a capped member's own row comes. An adjustment has its `reason`, and what was asked for (`asked`: ``+3``,
-- ``-3``, ``=3``). Rows are added, and pruned by age.
CREATE TABLE quota_ledger(
  id INTEGER PRIMARY KEY,
  at INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind = 'consume' OR kind IN
    ('opening', 'sql', 'reserve', 'extend', 'commit', 'release', 'expire', 'adjust')),
  owner TEXT NOT NULL,
  quota TEXT NOT NULL,
  period_start INTEGER NOT NULL,
  used INTEGER NOT NULL,
  reserved INTEGER NOT NULL,
  used_after INTEGER NOT NULL,
  reserved_after INTEGER NOT NULL,
  spender TEXT,
  key TEXT,
  lease TEXT,
  period TEXT,
  period_end INTEGER,
  carried_used INTEGER,
  carried_reserved INTEGER,
  limit_value INTEGER,
  hard INTEGER,
  cap INTEGER,
  member_taken INTEGER,
  seq INTEGER,
  reason TEXT,
  asked TEXT
) STRICT;
-- The key first: those that grow with time, as the SDK's do, are written side by side.
CREATE UNIQUE INDEX quota_ledger_by_key ON quota_ledger(key, spender) WHERE key IS NOT NULL;

-- Private: units that are held for work whose cost is not known yet, until `expires_at`.
CREATE TABLE leases(
  spender TEXT NOT NULL,
  id TEXT NOT NULL,
  owner TEXT NOT NULL CHECK (owner GLOB 'user:?*' OR owner GLOB 'org:?*'),
  quota TEXT NOT NULL CHECK (quota <> ''),
  period TEXT NOT NULL,
  period_start INTEGER NOT NULL,
  period_end INTEGER,
  amount INTEGER NOT NULL CHECK (amount >= 0),
  held INTEGER NOT NULL CHECK (held >= 0),
  committed INTEGER NOT NULL DEFAULT 0 CHECK (committed BETWEEN 0 AND held),
  state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'committed', 'released', 'expired')),
  created_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  ended_at INTEGER,
  PRIMARY KEY (spender, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX leases_by_end ON leases(expires_at) WHERE state = 'open';
CREATE INDEX leases_ended ON leases(ended_at) WHERE state <> 'open';
CREATE INDEX leases_by_owner ON leases(owner);

-- Private: what one member took of an organization's pool in a period.
CREATE TABLE member_usage(
  org_id TEXT NOT NULL REFERENCES organizations(id) ON DELETE CASCADE ON UPDATE CASCADE,
  user_id TEXT NOT NULL REFERENCES users(id) ON DELETE CASCADE ON UPDATE CASCADE,
  quota TEXT NOT NULL,
  period_start INTEGER NOT NULL,
  used INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),
  reserved INTEGER NOT NULL DEFAULT 0 CHECK (reserved >= 0),
  PRIMARY KEY (org_id, user_id, quota, period_start)
) STRICT, WITHOUT ROWID;
CREATE INDEX member_usage_by_user ON member_usage(user_id);

-- Not a table: what is inserted here is spent, or is not, row by row, each seeing what the one before left. Afterwards
-- the ledger (by spender and key) and the leases tell. A row says by which time zone, anchor and kind of period its
-- period was worked out: where they are others by now, nothing is spent. `used` and `reserved` are what to add; with
-- `absolute`, `used` is the total that an adjustment leads to.
CREATE VIEW spending AS SELECT
  0 AS at, '' AS kind, '' AS spender, '' AS owner, '' AS quota, '' AS timezone, 0 AS anchor_at, '' AS period,
  0 AS period_start, 0 AS period_end, 0 AS used, 0 AS reserved, '' AS key, '' AS lease, 0 AS expires_at, 0 AS absolute,
  '' AS reason, '' AS asked
WHERE 0;

-- The position that shows it is the next of the change log; where that is empty, after the last that was ever given.
-- Speed decides how the two are written, for they run once for each unit of work that is metered: what is not carried
-- out, or has nothing more to do, is left at once (RAISE(IGNORE) undoes nothing); only single rows of VALUES go to tables
-- that have triggers, and the sums come first, as both would make a temporary table of each row otherwise.
CREATE TRIGGER spending_own INSTEAD OF INSERT ON spending WHEN NEW.kind <> 'adjust' AND NEW.owner GLOB 'user:*' BEGIN
  INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after, spender,
      key, lease, period, period_end, carried_used, carried_reserved, limit_value, hard, seq)
    SELECT NEW.at, NEW.kind, NEW.owner, NEW.quota, NEW.period_start, NEW.used, NEW.reserved, b.used + NEW.used,
      b.reserved + NEW.reserved, NEW.spender, NEW.key, NEW.lease, NEW.period, NEW.period_end, b.all_used - b.used,
      b.all_reserved - b.reserved, iif(o.user_id IS NULL, p.limit_value, o.limit_value),
      iif(o.user_id IS NULL, p.hard, o.hard), coalesce((SELECT max(seq) FROM change_log),
        (SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0) + 1
    FROM (
      SELECT coalesce(sum(used), 0) AS all_used, coalesce(sum(reserved), 0) AS all_reserved,
        coalesce(sum(used) FILTER (WHERE period_start = NEW.period_start), 0) AS used,
        coalesce(sum(reserved) FILTER (WHERE period_start = NEW.period_start), 0) AS reserved
      FROM quota_usage
      WHERE owner = NEW.owner AND quota = NEW.quota AND period_start BETWEEN NEW.period_start AND NEW.at
    ) AS b
    CROSS JOIN users AS u
    LEFT JOIN plan_quotas AS p ON p.plan = u.plan AND p.quota = NEW.quota
    LEFT JOIN user_quotas AS o ON o.user_id = u.id AND o.quota = NEW.quota
      AND coalesce(o.starts_at <= NEW.at, 1) AND coalesce(o.expires_at > NEW.at, 1)
    WHERE u.id = substr(NEW.owner, 6) AND u.status = 'active'
      AND u.timezone = NEW.timezone AND u.anchor_at IS NEW.anchor_at
      AND iif(o.user_id IS NULL, p.period, o.period) = NEW.period
      AND b.all_used + b.all_reserved + NEW.used + NEW.reserved <= coalesce(
        iif(iif(o.user_id IS NULL, p.hard, o.hard), iif(o.user_id IS NULL, p.limit_value, o.limit_value), NULL),
        9007199254740991)
      AND CASE NEW.kind
        WHEN 'reserve' THEN NOT EXISTS (SELECT 1 FROM leases AS e WHERE e.spender = NEW.spender AND e.id = NEW.lease)
        WHEN 'extend' THEN EXISTS (SELECT 1 FROM leases AS e WHERE e.spender = NEW.spender AND e.id = NEW.lease
          AND e.state = 'open' AND e.expires_at > NEW.at
          AND (e.owner, e.quota, e.period_start) = (NEW.owner, NEW.quota, NEW.period_start))
        ELSE 1 END
    ON CONFLICT(key, spender) WHERE key IS NOT NULL DO NOTHING;
  SELECT RAISE(IGNORE) WHERE changes() = 0;
  UPDATE quota_usage SET used = used + NEW.used, reserved = reserved + NEW.reserved
    WHERE owner = NEW.owner AND quota = NEW.quota AND period_start = NEW.period_start;
  SELECT RAISE(IGNORE) WHERE NEW.kind = 'consume' AND changes() > 0;
  INSERT INTO quota_usage(owner, quota, period_start, used, reserved)
    VALUES (NEW.owner, NEW.quota, NEW.period_start, NEW.used, NEW.reserved)
    ON CONFLICT(owner, quota, period_start) DO NOTHING;
  SELECT RAISE(IGNORE) WHERE NEW.kind = 'consume';
  INSERT INTO leases(spender, id, owner, quota, period, period_start, period_end, amount, held, created_at, expires_at)
    VALUES (NEW.spender, NEW.lease, NEW.owner, NEW.quota, NEW.period, NEW.period_start, NEW.period_end, NEW.reserved,
      NEW.reserved, NEW.at, NEW.expires_at)
    ON CONFLICT(spender, id) DO UPDATE
      SET held = held + excluded.held, expires_at = max(expires_at, excluded.expires_at);
END;

-- The same of an organization's pool, for a member: that member's cap counts too, however soft the pool's limit is.
CREATE TRIGGER spending_pool INSTEAD OF INSERT ON spending WHEN NEW.kind <> 'adjust' AND NEW.owner GLOB 'org:*' BEGIN
  INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after, spender,
      key, lease, period, period_end, carried_used, carried_reserved, limit_value, hard, cap, member_taken, seq)
    SELECT NEW.at, NEW.kind, NEW.owner, NEW.quota, NEW.period_start, NEW.used, NEW.reserved, b.used + NEW.used,
      b.reserved + NEW.reserved, NEW.spender, NEW.key, NEW.lease, NEW.period, NEW.period_end, b.all_used - b.used,
      b.all_reserved - b.reserved, p.limit_value, p.hard, c.limit_value, b.taken + NEW.used + NEW.reserved,
      coalesce((SELECT max(seq) FROM change_log),
        (SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0) + 1 + (c.limit_value IS NOT NULL)
    FROM (
      SELECT coalesce(sum(used), 0) AS all_used, coalesce(sum(reserved), 0) AS all_reserved,
        coalesce(sum(used) FILTER (WHERE period_start = NEW.period_start), 0) AS used,
        coalesce(sum(reserved) FILTER (WHERE period_start = NEW.period_start), 0) AS reserved,
        (SELECT coalesce(sum(used + reserved), 0) FROM member_usage
          WHERE org_id = substr(NEW.owner, 5) AND user_id = substr(NEW.spender, 6) AND quota = NEW.quota
            AND period_start BETWEEN NEW.period_start AND NEW.at) AS taken
      FROM quota_usage
      WHERE owner = NEW.owner AND quota = NEW.quota AND period_start BETWEEN NEW.period_start AND NEW.at
    ) AS b
    CROSS JOIN organizations AS o
    JOIN memberships AS s ON s.org_id = o.id AND s.user_id = substr(NEW.spender, 6)
    JOIN users AS u ON u.id = s.user_id AND u.status = 'active'
    JOIN plan_quotas AS p ON p.plan = o.plan AND p.quota = NEW.quota AND p.period = NEW.period
    LEFT JOIN member_caps AS c ON c.org_id = o.id AND c.user_id = u.id AND c.quota = NEW.quota
    WHERE o.id = substr(NEW.owner, 5) AND o.status = 'active' AND NEW.spender GLOB 'user:*'
      AND o.timezone = NEW.timezone AND o.anchor_at IS NEW.anchor_at
      AND b.all_used + b.all_reserved + NEW.used + NEW.reserved
        <= coalesce(iif(p.hard, p.limit_value, NULL), 9007199254740991)
      AND b.taken + NEW.used + NEW.reserved <= coalesce(c.limit_value, 9007199254740991)
      AND CASE NEW.kind
        WHEN 'reserve' THEN NOT EXISTS (SELECT 1 FROM leases AS e WHERE e.spender = NEW.spender AND e.id = NEW.lease)
        WHEN 'extend' THEN EXISTS (SELECT 1 FROM leases AS e WHERE e.spender = NEW.spender AND e.id = NEW.lease
          AND e.state = 'open' AND e.expires_at > NEW.at
          AND (e.owner, e.quota, e.period_start) = (NEW.owner, NEW.quota, NEW.period_start))
        ELSE 1 END
    ON CONFLICT(key, spender) WHERE key IS NOT NULL DO NOTHING;
  SELECT RAISE(IGNORE) WHERE changes() = 0;
  INSERT INTO member_usage(org_id, user_id, quota, period_start, used, reserved)
    VALUES (substr(NEW.owner, 5), substr(NEW.spender, 6), NEW.quota, NEW.period_start, NEW.used, NEW.reserved)
    ON CONFLICT(org_id, user_id, quota, period_start) DO UPDATE
      SET used = used + excluded.used, reserved = reserved + excluded.reserved;
  UPDATE quota_usage SET used = used + NEW.used, reserved = reserved + NEW.reserved
    WHERE owner = NEW.owner AND quota = NEW.quota AND period_start = NEW.period_start;
  SELECT RAISE(IGNORE) WHERE NEW.kind = 'consume' AND changes() > 0;
  INSERT INTO quota_usage(owner, quota, period_start, used, reserved)
    VALUES (NEW.owner, NEW.quota, NEW.period_start, NEW.used, NEW.reserved)
    ON CONFLICT(owner, quota, period_start) DO NOTHING;
  SELECT RAISE(IGNORE) WHERE NEW.kind = 'consume';
  INSERT INTO leases(spender, id, owner, quota, period, period_start, period_end, amount, held, created_at, expires_at)
    VALUES (NEW.spender, NEW.lease, NEW.owner, NEW.quota, NEW.period, NEW.period_start, NEW.period_end, NEW.reserved,
      NEW.reserved, NEW.at, NEW.expires_at)
    ON CONFLICT(spender, id) DO UPDATE
      SET held = held + excluded.held, expires_at = max(expires_at, excluded.expires_at);
END;

-- A correction, by whoever may make it: one that adds obeys the limit, one that takes away never goes below zero. One
-- that changes nothing is an entry all the same.
CREATE TRIGGER spending_adjust INSTEAD OF INSERT ON spending WHEN NEW.kind = 'adjust' BEGIN
  INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after, spender,
      key, period, period_end, carried_used, carried_reserved, limit_value, hard, seq, reason, asked)
    SELECT NEW.at, NEW.kind, NEW.owner, NEW.quota, NEW.period_start, b.delta, 0, b.used + b.delta, b.reserved,
      NEW.spender, NEW.key, NEW.period, NEW.period_end, b.all_used - b.used, b.all_reserved - b.reserved,
      l.limit_value, l.hard, coalesce((SELECT max(seq) FROM change_log),
        (SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0) + (b.delta <> 0), NEW.reason,
      NEW.asked
    FROM (
      SELECT iif(o.user_id IS NULL, p.limit_value, o.limit_value) AS limit_value,
        iif(o.user_id IS NULL, p.period, o.period) AS period, iif(o.user_id IS NULL, p.hard, o.hard) AS hard
      FROM (
        SELECT id AS user, plan, timezone, anchor_at FROM users
        WHERE 'user:' || id = NEW.owner AND id = substr(NEW.owner, 6)
        UNION ALL
        SELECT NULL, plan, timezone, anchor_at FROM organizations
        WHERE 'org:' || id = NEW.owner AND id = substr(NEW.owner, 5)
      ) AS w
      LEFT JOIN plan_quotas AS p ON p.plan = w.plan AND p.quota = NEW.quota
      LEFT JOIN user_quotas AS o ON o.user_id = w.user AND o.quota = NEW.quota
        AND coalesce(o.starts_at <= NEW.at, 1) AND coalesce(o.expires_at > NEW.at, 1)
      WHERE w.timezone = NEW.timezone AND w.anchor_at IS NEW.anchor_at
    ) AS l CROSS JOIN (
      SELECT *, NEW.used - iif(NEW.absolute, all_used, 0) AS delta FROM (
        SELECT coalesce(sum(used), 0) AS all_used, coalesce(sum(reserved), 0) AS all_reserved,
          coalesce(sum(used) FILTER (WHERE period_start = NEW.period_start), 0) AS used,
          coalesce(sum(reserved) FILTER (WHERE period_start = NEW.period_start), 0) AS reserved
        FROM quota_usage
        WHERE owner = NEW.owner AND quota = NEW.quota AND period_start BETWEEN NEW.period_start AND NEW.at
      ) AS b
    ) AS b
    WHERE l.period = NEW.period AND b.used + b.delta >= 0 AND (b.delta <= 0
        OR b.all_used + b.all_reserved + b.delta <= coalesce(iif(l.hard, l.limit_value, NULL), 9007199254740991))
    ON CONFLICT(key, spender) WHERE key IS NOT NULL DO NOTHING;
  INSERT INTO quota_usage(owner, quota, period_start, used)
    SELECT NEW.owner, NEW.quota, NEW.period_start, used_after FROM quota_ledger
    WHERE changes() > 0 AND id = last_insert_rowid() AND used <> 0
    ON CONFLICT(owner, quota, period_start) DO UPDATE SET used = excluded.used;
END;

-- A lease ends once, in whatever way: what was committed is used, the rest is given back, in the period that it was
-- reserved in.
CREATE TRIGGER leases_end AFTER UPDATE OF state ON leases WHEN OLD.state = 'open' AND NEW.state <> 'open' BEGIN
  INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after, spender,
      lease, period, period_end, seq)
    SELECT NEW.ended_at, CASE NEW.state WHEN 'committed' THEN 'commit' WHEN 'released' THEN 'release' ELSE 'expire' END,
      NEW.owner, NEW.quota, NEW.period_start, NEW.committed, -min(b.reserved, NEW.held), b.used + NEW.committed,
      max(0, b.reserved - NEW.held), NEW.spender, NEW.id, NEW.period, NEW.period_end,
      coalesce((SELECT max(seq) FROM change_log),
        (SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0)
        + (NEW.committed > 0 OR min(b.reserved, NEW.held) > 0)
    FROM (
      SELECT coalesce(sum(used), 0) AS used, coalesce(sum(reserved), 0) AS reserved FROM quota_usage
      WHERE owner = NEW.owner AND quota = NEW.quota AND period_start = NEW.period_start
    ) AS b;
  INSERT INTO quota_usage(owner, quota, period_start, used)
    VALUES (NEW.owner, NEW.quota, NEW.period_start, NEW.committed)
    ON CONFLICT(owner, quota, period_start) DO UPDATE
      SET used = used + excluded.used, reserved = max(0, reserved - NEW.held);
  UPDATE member_usage SET used = used + NEW.committed, reserved = max(0, reserved - NEW.held)
    WHERE org_id = substr(NEW.owner, 5) AND user_id = substr(NEW.spender, 6) AND quota = NEW.quota
      AND period_start = NEW.period_start AND NEW.owner GLOB 'org:*';
END;

-- What moves a balance without an entry (anybody's SQL) gets one here. An entry of the gateway's own is made before the
-- row moves: then the newest entry is about this row and says what it holds.
CREATE TRIGGER quota_usage_booked_insert AFTER INSERT ON quota_usage WHEN (NEW.used, NEW.reserved) IS NOT (0, 0)
  AND (NEW.owner, NEW.quota, NEW.period_start, NEW.used, NEW.reserved) IS NOT
    (SELECT owner, quota, period_start, used_after, reserved_after FROM quota_ledger ORDER BY id DESC LIMIT 1) BEGIN
  INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after)
    VALUES (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER), 'sql', NEW.owner, NEW.quota,
      NEW.period_start, NEW.used, NEW.reserved, NEW.used, NEW.reserved);
END;
CREATE TRIGGER quota_usage_booked_update AFTER UPDATE ON quota_usage
WHEN (NEW.owner, NEW.quota, NEW.period_start, NEW.used, NEW.reserved)
    IS NOT (OLD.owner, OLD.quota, OLD.period_start, OLD.used, OLD.reserved)
  AND (NEW.owner, NEW.quota, NEW.period_start, NEW.used, NEW.reserved) IS NOT
    (SELECT owner, quota, period_start, used_after, reserved_after FROM quota_ledger ORDER BY id DESC LIMIT 1) BEGIN
  INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after)
    SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER), 'sql', OLD.owner, OLD.quota,
      OLD.period_start, -OLD.used, -OLD.reserved, 0, 0
    WHERE (NEW.owner, NEW.quota, NEW.period_start) IS NOT (OLD.owner, OLD.quota, OLD.period_start);
  INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after)
    SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER), 'sql', NEW.owner, NEW.quota,
      NEW.period_start, NEW.used - iif(moved, 0, OLD.used), NEW.reserved - iif(moved, 0, OLD.reserved),
      NEW.used, NEW.reserved
    FROM (SELECT (NEW.owner, NEW.quota, NEW.period_start) IS NOT (OLD.owner, OLD.quota, OLD.period_start) AS moved);
END;
CREATE TRIGGER quota_usage_booked_delete AFTER DELETE ON quota_usage WHEN (OLD.used, OLD.reserved) IS NOT (0, 0) BEGIN
  INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after)
    VALUES (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER), 'sql', OLD.owner, OLD.quota,
      OLD.period_start, -OLD.used, -OLD.reserved, 0, 0);
END;
INSERT INTO quota_ledger(at, kind, owner, quota, period_start, used, reserved, used_after, reserved_after)
  SELECT CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER), 'opening', owner, quota, period_start,
    used, reserved, used, reserved
  FROM quota_usage WHERE (used, reserved) IS NOT (0, 0);

-- What a member took is in that member's document where a cap makes it matter.
CREATE TRIGGER member_usage_insert AFTER INSERT ON member_usage WHEN EXISTS (SELECT 1 FROM member_caps AS c
    WHERE c.org_id = NEW.org_id AND c.user_id = NEW.user_id AND c.quota = NEW.quota AND c.limit_value IS NOT NULL) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'quota_usage');
END;
CREATE TRIGGER member_usage_update AFTER UPDATE ON member_usage
WHEN (NEW.used, NEW.reserved) IS NOT (OLD.used, OLD.reserved) AND EXISTS (SELECT 1 FROM member_caps AS c
    WHERE c.org_id = NEW.org_id AND c.user_id = NEW.user_id AND c.quota = NEW.quota AND c.limit_value IS NOT NULL) BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('user:' || NEW.user_id, 'quota_usage');
END;

-- Leases move and go with whom they are of; what a deleted member held of a pool is given back.
CREATE TRIGGER users_leases_move AFTER UPDATE OF id ON users WHEN NEW.id IS NOT OLD.id BEGIN
  UPDATE leases SET owner = 'user:' || NEW.id WHERE owner = 'user:' || OLD.id;
  UPDATE leases SET spender = 'user:' || NEW.id WHERE spender = 'user:' || OLD.id;
END;
CREATE TRIGGER users_leases_end BEFORE DELETE ON users BEGIN
  DELETE FROM leases WHERE owner = 'user:' || OLD.id;
  UPDATE leases SET state = 'released', ended_at = CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)
    WHERE spender = 'user:' || OLD.id AND state = 'open';
  DELETE FROM leases WHERE spender = 'user:' || OLD.id;
  DELETE FROM member_usage WHERE user_id = OLD.id;
END;
CREATE TRIGGER organizations_leases_move AFTER UPDATE OF id ON organizations WHEN NEW.id IS NOT OLD.id BEGIN
  UPDATE leases SET owner = 'org:' || NEW.id WHERE owner = 'org:' || OLD.id;
END;
CREATE TRIGGER organizations_leases_end BEFORE DELETE ON organizations BEGIN
  DELETE FROM leases WHERE owner = 'org:' || OLD.id;
  DELETE FROM member_usage WHERE org_id = OLD.id;
END;

-- migration 5: server instances, their keys, and the nonces of what they signed

-- Servers that trust this gateway. `networks` are the addresses that one may ask from (CIDR; none: any); a list that can
-- not be read lets nobody in.
CREATE TABLE instances(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  name TEXT NOT NULL DEFAULT '',
  status TEXT NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'disabled')),
  networks TEXT NOT NULL DEFAULT '[]' CHECK (json_valid(networks) AND json_type(networks) = 'array'),
  requests_per_minute INTEGER NOT NULL DEFAULT 6000 CHECK (requests_per_minute BETWEEN 1 AND 100000),
  created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
  updated_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER))
) STRICT;

-- The keys that an instance signs with (RFC 9421), by their `kid`. `secret` is sealed with the master key: nobody adds a
-- key by SQL, and anybody ends one.
CREATE TABLE instance_keys(
  id TEXT NOT NULL PRIMARY KEY CHECK (id <> ''),
  instance_id TEXT NOT NULL REFERENCES instances(id) ON DELETE CASCADE ON UPDATE CASCADE,
  secret BLOB NOT NULL,
  created_at INTEGER NOT NULL DEFAULT (CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)),
  expires_at INTEGER
) STRICT;
CREATE INDEX instance_keys_by_instance ON instance_keys(instance_id);

-- Private: what was signed once, until no node takes it any more by its age. No foreign key: a nonce outlives its key.
CREATE TABLE nonces(
  kid TEXT NOT NULL,
  nonce TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  PRIMARY KEY (kid, nonce)
) STRICT, WITHOUT ROWID;
CREATE INDEX nonces_by_end ON nonces(kid, expires_at);

-- Private: of a key, how many nonces are remembered, so that one key can not fill the store for the others; the latest
-- end that one had; and the latest end of one that was forgotten: what ends no later is never taken again, whatever
-- clocks say.
CREATE TABLE nonce_counts(
  kid TEXT NOT NULL PRIMARY KEY,
  remembered INTEGER NOT NULL,
  newest INTEGER NOT NULL,
  forgotten INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

CREATE TRIGGER nonces_insert AFTER INSERT ON nonces BEGIN
  INSERT INTO nonce_counts(kid, remembered, newest) VALUES (NEW.kid, 1, NEW.expires_at)
    ON CONFLICT(kid) DO UPDATE SET remembered = remembered + 1, newest = max(newest, excluded.newest);
END;
CREATE TRIGGER nonces_delete AFTER DELETE ON nonces BEGIN
  UPDATE nonce_counts SET remembered = remembered - 1, forgotten = max(forgotten, OLD.expires_at)
    WHERE kid = OLD.kid;
END;

CREATE TRIGGER instances_children BEFORE DELETE ON instances BEGIN
  DELETE FROM instance_keys WHERE instance_id = OLD.id;
END;
CREATE TRIGGER instances_insert AFTER INSERT ON instances BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('instance:' || NEW.id, 'profile');
END;
CREATE TRIGGER instances_delete AFTER DELETE ON instances BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('instance:' || OLD.id, 'revocation');
END;
CREATE TRIGGER instances_update AFTER UPDATE ON instances
WHEN (NEW.id, NEW.name, NEW.status, NEW.networks, NEW.requests_per_minute, NEW.created_at, NEW.updated_at)
  IS NOT (OLD.id, OLD.name, OLD.status, OLD.networks, OLD.requests_per_minute, OLD.created_at, OLD.updated_at) BEGIN
  INSERT INTO change_log(doc, cause) SELECT 'instance:' || NEW.id, 'status' WHERE NEW.status IS NOT OLD.status;
  INSERT INTO change_log(doc, cause) SELECT 'instance:' || NEW.id, 'profile'
    WHERE (NEW.id, NEW.name, NEW.networks, NEW.requests_per_minute, NEW.created_at, NEW.updated_at)
      IS NOT (OLD.id, OLD.name, OLD.networks, OLD.requests_per_minute, OLD.created_at, OLD.updated_at);
  INSERT INTO change_log(doc, cause) SELECT 'instance:' || OLD.id, 'revocation' WHERE OLD.id IS NOT NEW.id;
  UPDATE instance_keys SET instance_id = NEW.id WHERE instance_id = OLD.id AND OLD.id IS NOT NEW.id;
  UPDATE login_sessions SET instance_id = NEW.id WHERE instance_id = OLD.id AND OLD.id IS NOT NEW.id;
  UPDATE instances SET updated_at = CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)
    WHERE id = NEW.id AND NEW.updated_at IS OLD.updated_at;
END;

CREATE TRIGGER instance_keys_insert AFTER INSERT ON instance_keys BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('instance:' || NEW.instance_id, 'keys');
END;
CREATE TRIGGER instance_keys_delete AFTER DELETE ON instance_keys BEGIN
  INSERT INTO change_log(doc, cause) VALUES ('instance:' || OLD.instance_id, 'revocation');
END;
CREATE TRIGGER instance_keys_update AFTER UPDATE ON instance_keys BEGIN
  INSERT INTO change_log(doc, cause) SELECT 'instance:' || NEW.instance_id, 'revocation'
    WHERE (NEW.id, NEW.instance_id, NEW.expires_at) IS NOT (OLD.id, OLD.instance_id, OLD.expires_at);
  INSERT INTO change_log(doc, cause) SELECT 'instance:' || OLD.instance_id, 'revocation'
    WHERE OLD.instance_id IS NOT NEW.instance_id;
  INSERT INTO change_log(doc, cause) SELECT 'instance:' || NEW.instance_id, 'keys'
    WHERE (NEW.secret, NEW.created_at) IS NOT (OLD.secret, OLD.created_at);
END;

-- When a credential came among the revocations: instances are told of it for as long as something that was made or
-- remembered before may live, and no longer.
ALTER TABLE revocations ADD COLUMN noted_at INTEGER;
UPDATE revocations SET noted_at = CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER);
CREATE INDEX revocations_by_noting ON revocations(kind, noted_at);
CREATE TRIGGER revocations_noted AFTER INSERT ON revocations WHEN NEW.noted_at IS NULL BEGIN
  UPDATE revocations SET noted_at = CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)
    WHERE id = NEW.id;
END;
-- One that is among them already, and revoked once more, is news again.
CREATE TRIGGER revocations_noted_again AFTER UPDATE OF kind, user_id, expires_at ON revocations BEGIN
  UPDATE revocations SET noted_at = CAST(ROUND((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)
    WHERE id = NEW.id;
END;

-- Private: how long access tokens live that may be in force, each life until the last token of it has ended at the
-- latest. A setting that is made shorter does not shorten what was issued before.
CREATE TABLE access_token_lives(
  life_ms INTEGER NOT NULL PRIMARY KEY,
  until INTEGER NOT NULL
) STRICT;

-- The sessions of people who signed in by an instance. No foreign key: they are theirs, and outlive it.
CREATE INDEX login_sessions_by_instance ON login_sessions(instance_id) WHERE instance_id IS NOT NULL;

-- What an instance spends has keys and leases of that instance's own, named ``instance:ID``, U+001F and what it named
-- them: nobody else's name has such a character. So the ledger says which instance it was.
ALTER TABLE quota_ledger ADD COLUMN instance TEXT AS (
  iif(coalesce(lease, key) GLOB 'instance:?*' || char(31) || '*',
    substr(coalesce(lease, key), 10, instr(coalesce(lease, key), char(31)) - 10), NULL)) VIRTUAL;
