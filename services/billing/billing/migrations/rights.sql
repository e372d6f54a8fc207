-- What the role that serves may do to the ledger; every other table it may read and write. Corrections are journals.
REVOKE ALL ON account, journal, entry FROM {role};
GRANT SELECT ON account, journal, entry TO {role};
GRANT INSERT (book, kind, key, currency, fingerprint, external_ref, occur_time) ON journal TO {role};
GRANT INSERT ON entry TO {role};
GRANT INSERT (book, code, currency, kind, floor, balance_minor, version) ON account TO {role};
GRANT UPDATE (balance_minor, version) ON account TO {role};
REVOKE UPDATE, DELETE ON closed_month FROM {role}
