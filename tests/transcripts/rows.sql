-- What every transcript begins with: the document of ada is the example of the data model.
-- Times: 2026-11-21T19:10:00Z is 1795288200000, 19:12:00Z is 1795288320000, 2026-11-01T00:00:00Z is 1793491200000.

INSERT INTO plans(id, name) VALUES ('pro', 'Pro'), ('business', 'Business'), ('support', 'Support');
INSERT INTO plan_permissions(plan, permission) VALUES
  ('pro', 'can_use_voice'), ('pro', 'can_use_sms'), ('support', 'users.read');
INSERT INTO plan_quotas(plan, quota, limit_value, period, hard) VALUES
  ('pro', 'voice_minutes', 500, 'month', 1),
  ('pro', 'sms_messages', NULL, 'month', 1),
  ('business', 'voice_minutes', 10000, 'month', 1);

INSERT INTO users(id, username, name, email, plan, is_admin, status, attributes, timezone, created_at, updated_at) VALUES
  ('u_7f3k', 'ada', 'Ada Lovelace', 'ada@example.org', 'pro', 0, 'active',
   '{"persona": "boss", "wake_word": "hey boss"}', 'UTC', 1795288200000, 1795288320000),
  ('u_9grc', 'grace', 'Grace Hopper', 'grace@example.org', 'support', 0, 'active',
   '{}', 'UTC', 1795288200000, 1795288320000),
  ('u_2bob', 'bob', 'Bob', NULL, 'pro', 0, 'active',
   '{"volume": 0.25, "gain": 1e-7}', 'UTC', 1795288200000, 1795288320000);

INSERT INTO organizations(id, name, plan, attributes, timezone, status, created_at, updated_at) VALUES
  ('o_acme', 'Acme', 'business', '{}', 'UTC', 'active', 1795288200000, 1795288320000);
INSERT INTO org_role_permissions(role, permission) VALUES ('admin', 'manage_members')
  ON CONFLICT DO NOTHING;
INSERT INTO memberships(org_id, user_id, role, created_at) VALUES ('o_acme', 'u_7f3k', 'admin', 1795288200000);

INSERT INTO quota_usage(owner, quota, period_start, used, reserved) VALUES
  ('user:u_7f3k', 'voice_minutes', 1793491200000, 12, 5),
  ('user:u_7f3k', 'sms_messages', 1793491200000, 3, 0),
  ('org:o_acme', 'voice_minutes', 1793491200000, 4100, 0);
