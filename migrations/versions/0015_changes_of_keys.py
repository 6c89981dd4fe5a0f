"""Number every change of what is known of keys, so that gateways read what changed and no more.

The numbers are given by triggers: whatever writes, an older gateway or an operator with SQL, a
change is seen. They count in the order of commits, since the counter's row is locked until then.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

INDEX = "ix_keys_version"
OF_KEYS = (
    "team_id, name, secret_sha256, previous_secret_sha256, previous_valid_until, allowed_models, "
    "profile, data_rule, expires_at, revoked_at"
)
"""All but what says nothing of who may call: when a key was made and last used, and `version`."""
OF_TEAMS = "logs_text, trains_reasoner, is_judged, stores_responses, data_rule"
COUNT = """INSERT INTO key_changes (id, version, deletions) VALUES (1, {version}, {deletions})
    ON CONFLICT (id) DO UPDATE SET version = key_changes.version + {version},
    deletions = key_changes.deletions + {deletions}"""
CHANGED = COUNT.format(version=1, deletions=0)
DELETED = COUNT.format(version=1, deletions=1)
SQLITE = tuple(
    f"CREATE TRIGGER {name} AFTER {event} BEGIN {count}; {then} END"
    for name, event, count, then in (
        (
            "key_created",
            "INSERT ON keys",
            CHANGED,
            "UPDATE keys SET version = (SELECT version FROM key_changes) WHERE id = NEW.id;",
        ),
        (
            "key_changed",
            f"UPDATE OF {OF_KEYS} ON keys",
            CHANGED,
            "UPDATE keys SET version = (SELECT version FROM key_changes) WHERE id = NEW.id;",
        ),
        (
            "team_changed",
            f"UPDATE OF {OF_TEAMS} ON teams",
            CHANGED,
            "UPDATE keys SET version = (SELECT version FROM key_changes) WHERE team_id = NEW.id;",
        ),
        ("key_deleted", "DELETE ON keys", DELETED, ""),
    )
)
POSTGRES = (
    f"""CREATE FUNCTION count_key_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    {CHANGED} RETURNING version INTO NEW.version; RETURN NEW; END $$""",
    f"""CREATE FUNCTION count_team_change() RETURNS trigger LANGUAGE plpgsql AS $$
    DECLARE counted bigint; BEGIN {CHANGED} RETURNING version INTO counted;
    UPDATE keys SET version = counted WHERE team_id = NEW.id; RETURN NULL; END $$""",  # noqa: S608
    f"""CREATE FUNCTION count_key_deletion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    {DELETED}; RETURN NULL; END $$""",
    f"""CREATE TRIGGER key_changed BEFORE INSERT OR UPDATE OF {OF_KEYS} ON keys
    FOR EACH ROW EXECUTE FUNCTION count_key_change()""",
    f"""CREATE TRIGGER team_changed AFTER UPDATE OF {OF_TEAMS} ON teams
    FOR EACH ROW EXECUTE FUNCTION count_team_change()""",
    """CREATE TRIGGER key_deleted AFTER DELETE ON keys
    FOR EACH ROW EXECUTE FUNCTION count_key_deletion()""",
)


def upgrade() -> None:
    """Add the counter, the column that it numbers, and the triggers."""
    op.create_table(
        "key_changes",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("deletions", sa.BigInteger, nullable=False),
    )
    op.add_column("keys", sa.Column("version", sa.BigInteger, nullable=False, server_default="0"))
    op.create_index(INDEX, "keys", ["version"])
    for statement in SQLITE if op.get_bind().dialect.name == "sqlite" else POSTGRES:
        op.execute(statement)


def downgrade() -> None:
    """Drop them."""
    if op.get_bind().dialect.name == "sqlite":
        for name in ("key_created", "key_changed", "team_changed", "key_deleted"):
            op.execute(f"DROP TRIGGER {name}")
    else:
        for name, table in (("key_changed", "keys"), ("team_changed", "teams")):
            op.execute(f"DROP TRIGGER {name} ON {table}")
        op.execute("DROP TRIGGER key_deleted ON keys")
        for name in ("count_key_change", "count_team_change", "count_key_deletion"):
            op.execute(f"DROP FUNCTION {name}")
    op.drop_index(INDEX, "keys")
    with op.batch_alter_table("keys") as changed:
        changed.drop_column("version")
    op.drop_table("key_changes")
