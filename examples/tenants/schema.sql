DO $$BEGIN CREATE ROLE tenants_example; EXCEPTION WHEN duplicate_object THEN END$$;
CREATE TABLE IF NOT EXISTS tenants_example (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL DEFAULT nullif(current_setting('app.tenant', true), ''),
    text   text NOT NULL
);
GRANT SELECT, INSERT ON tenants_example TO tenants_example;
ALTER TABLE tenants_example ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
-- NULL, which nothing is equal to, where a transaction has no tenant. On a pooled
-- connection the setting is then the empty string.
DROP POLICY IF EXISTS own_tenant ON tenants_example;
CREATE POLICY own_tenant ON tenants_example USING (tenant = nullif(current_setting('app.tenant', true), ''));
