"""Building an instance: order, one deployment, repeats, deadlines, tombstones, and what is checked before anything is bought."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.errors import SettingsError
from shared.services.context import from_environment, provision_context
from tests.world import ALL_TOOLS, SERVICES_KEY, VENDOR_KEYS, World, build, environment

PLACING = ["serviceCreate", "volumeCreate", "serviceDomainCreate"]


def test_an_instance_has_its_place_then_its_tools_then_one_deployment_with_everything(world: World) -> None:
    """P14, P15: volume and domain stand before the only deployment, whose snapshot has every variable."""
    answer = world.create("a1", *ALL_TOOLS)
    assert answer.status_code == 200
    row = world.run("SELECT * FROM services.instances;")[0]
    assert answer.json() == {"instanceId": "a1", "url": f"https://{row['domain']}", "status": "created"}
    operations = [operation for vendor, operation in world.calls() if vendor == "railway"]
    assert operations == [*PLACING, "environmentPatchCommit"]
    assert world.calls()[-1] == ("railway", "environmentPatchCommit")
    assert len(world.railway.deployments_of(row["service_id"])) == 1
    variables = world.environment_of("a1")
    granted = {"OPENROUTER_API_KEY", "PRIVATE_WALLET_KEY", "AGENTMAIL_API_KEY", "TELNYX_PHONE_NUMBER", "BANKR_API_KEY"}
    assert granted < set(variables)
    assert variables["RAILWAY_VOLUME_MOUNT_PATH"] == "/data"
    assert variables["RAILWAY_PUBLIC_DOMAIN"] == row["domain"]
    assert (variables["INSTANCE_ID"], variables["XMTP_ENV"], variables["POOL_URL"]) == ("a1", "dev", "http://pool")
    assert "@sha256:" in row["launched_image"]
    assert world.inventories() == world.tables()


def test_an_instance_carries_only_secrets_of_its_own(world: World) -> None:
    """P42: older images check callers against POOL_API_KEY, which is the instance's own token."""
    for instance_id in ("a1", "a2"):
        assert world.create(instance_id, *ALL_TOOLS).status_code == 200
    first, second = world.environment_of("a1"), world.environment_of("a2")
    assert first["POOL_API_KEY"] == first["GATEWAY_TOKEN"] == first["OPENCLAW_GATEWAY_TOKEN"]
    for name in ("GATEWAY_TOKEN", "SETUP_PASSWORD", "INSTANCE_SERVICES_TOKEN", "OPENROUTER_API_KEY", "PRIVATE_WALLET_KEY"):
        assert len({first[name], second[name]}) == 2
        assert first[name] not in second.values()
    ours = {SERVICES_KEY, world.settings["INSTANCE_SECRETS_KEY"], world.settings["SERVICES_DATABASE_URL"], *VENDOR_KEYS.values()}
    assert not ours & set(first.values())


def test_repeating_a_finished_creation_answers_the_same_and_calls_nobody(world: World) -> None:
    first = world.create("a1")
    called = world.calls()
    second = world.create("a1")
    assert (second.status_code, second.json()) == (200, first.json())
    assert world.calls() == called


def test_many_callers_at_once_build_one_instance(world: World) -> None:
    """P19: one worker holds the lease; the others are told to come back."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: world.create("a1", "sms"), range(8)))
    assert {answer.status_code for answer in answers} <= {200, 202}
    assert world.repeat(lambda: world.create("a1")).status_code == 200
    operations = [operation for _, operation in world.calls()]
    for once in (*PLACING, "create_key", "create_order", "environmentPatchCommit"):
        assert operations.count(once) == 1
    assert world.inventories() == world.tables()


def test_a_short_deadline_does_a_step_at_a_time_until_it_is_finished(world: World) -> None:
    steps = []
    while (answer := world.create("a1", deadline=0.1)).status_code == 202:
        steps.append(answer.json()["step"])
        assert answer.json()["status"] == "creating"
        assert "problem" in answer.json()
        assert answer.json()["problem"] is None
    assert steps == ["volume", "domain", "tool:openrouter", "tool:wallet", "deploy"]
    assert answer.status_code == 200
    assert world.inventories() == world.tables()


def test_a_tombstone_refuses_to_be_built_and_nothing_is_called(world: World) -> None:
    assert world.destroy("a1").status_code == 200
    called = world.calls()
    answer = world.create("a1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "destroyed")
    assert world.calls() == called


@pytest.mark.parametrize(
    ("tools", "missing", "expected"),
    [
        (["email"], "AGENTMAIL_API_KEY", (503, "not_configured")),
        ([], "OPENROUTER_MANAGEMENT_KEY", (503, "not_configured")),
        (["fax"], None, (400, "unknown_tool")),
    ],
)
def test_nothing_is_bought_when_a_tool_is_unknown_or_not_configured(
    database_url: str, tools: list[str], missing: str | None, expected: tuple[int, str]
) -> None:
    """P18: everything is validated before the first row and the first external call."""
    world = build(database_url, **({missing: None} if missing else {}))
    answer = world.create("a1", *tools)
    assert (answer.status_code, answer.json()["error"]["code"]) == expected
    assert world.calls() == []
    assert world.run("SELECT id FROM services.instances;") == []
    world.close()


@pytest.mark.parametrize(
    "name", ["SERVICES_DATABASE_URL", "SERVICES_API_KEY", "INSTANCE_SECRETS_KEY", "RAILWAY_RUNTIME_IMAGE", "RAILWAY_API_TOKEN"]
)
def test_a_missing_setting_is_named_when_the_function_is_built(database_url: str, name: str) -> None:
    """P18."""
    settings = environment(database_url)
    del settings[name]
    with pytest.raises(SettingsError, match=name):
        from_environment(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("RUNTIME_VARIABLES", "{'a': 1}"),
        ("RUNTIME_VARIABLES", '{"A": "1", "A": "2"}'),
        ("RUNTIME_VARIABLES", '{"POOL_API_KEY": "x"}'),
        ("RUNTIME_VARIABLES", '{"MODEL": "${{shared.KEY}}"}'),
        ("INSTANCE_URL_TEMPLATE", "https://nowhere"),
        ("SERVICES_API_KEY", "schlüssel"),
        ("RAILWAY_API_TOKEN", "good,schlüssel"),
        ("INSTANCE_CPU", "many"),
        ("INSTANCE_SECRETS_KEY", "k1:AAAA"),
    ],
)
def test_a_malformed_setting_is_named_when_the_function_is_built(database_url: str, name: str, value: str) -> None:
    """P18."""
    with pytest.raises(SettingsError, match=name):
        from_environment({**environment(database_url), name: value})


def test_contexts_are_built_from_the_environment_without_a_call(database_url: str) -> None:
    settings = environment(database_url)
    assert from_environment(settings).host.steps == ("service", "volume", "domain")
    assert provision_context("email", settings).plugin is not None
    assert provision_context("email", {**settings, "AGENTMAIL_API_KEY": ""}).plugin is None


def test_a_key_may_end_with_the_line_break_of_the_file_it_was_mounted_from(database_url: str) -> None:
    """Nobody could send it otherwise: every caller would be refused."""
    world = build(database_url, SERVICES_API_KEY=f"{SERVICES_KEY}\n")
    assert world.create("a1").status_code == 200
    world.close()


def test_a_failed_step_is_told_in_words_and_rests_before_it_is_tried_again(world: World) -> None:
    """P16: a failed step fails the creation, which a later call resumes; a vendor's own text is quoted nowhere."""
    world.railway.refuse("volumeCreate", "Whoa there pal! secret-vendor-text", times=None)
    answer = world.create("a1")
    assert answer.status_code == 202
    assert answer.json()["step"] == "volume"
    assert "Railway" in answer.json()["problem"]
    assert "secret-vendor-text" not in answer.text
    assert answer.json()["retryAfterSeconds"] > 1
    called = world.calls()
    assert world.create("a1").status_code == 202
    assert world.calls() == called
    pauses = []
    for _ in range(3):
        world.let_time_pass()
        pauses.append(world.create("a1").json()["retryAfterSeconds"])
    assert pauses == sorted(pauses)
    assert pauses[-1] > 10
    world.heal()
    assert world.repeat(lambda: world.create("a1")).status_code == 200
    assert world.inventories() == world.tables()


def test_a_plugin_that_asks_for_patience_is_not_asked_again_before(world: World) -> None:
    """The wait that a vendor asks for travels through the plugin's function to the row of the instance."""
    world.simulators["openrouter"].fail("create_key", "refuse", status=429, headers={"Retry-After": "77"})
    answer = world.create("a1").json()
    assert answer["step"] == "tool:openrouter"
    assert 70 < answer["retryAfterSeconds"] <= 77
    assert "OpenRouter asked us to slow down" in answer["problem"]


def test_a_destruction_during_a_vendors_work_is_carried_out_by_the_worker_that_built(world: World) -> None:
    """The tombstone wins; what the running step made is known to it."""
    answers = []
    world.railway.fail("serviceCreate", "hook", after=lambda: answers.append(world.destroy("a1")))
    assert world.create("a1").json()["error"]["code"] == "destroyed"
    assert answers[0].status_code == 202
    assert not any(world.inventories().values())
    assert world.destroy("a1").json()["hosting"] is True


def test_a_destruction_during_a_purchase_releases_what_was_bought(world: World) -> None:
    """P17: the statement that records the purchase sees the tombstone."""
    world.simulators["openrouter"].fail("create_key", "hook", after=lambda: world.destroy("a1"))
    assert world.create("a1").json()["error"]["code"] == "destroyed"
    assert world.inventories()["openrouter"] == {}
    world.repeat(lambda: world.destroy("a1"))
    assert not any(world.inventories().values())


def test_a_destruction_that_ended_is_opened_again_by_a_straggler_that_still_built(world: World) -> None:
    """A worker that was thought dead comes back after the end, and cannot take down what it built: it goes with the next call."""

    def overtake() -> None:
        world.let_time_pass()
        assert world.destroy("a1").status_code == 200

    world.railway.fail("serviceCreate", "hook", before=overtake)
    world.railway.fail("serviceDelete", "refuse", status=503)
    assert world.create("a1").json()["error"]["code"] == "destroyed"
    assert world.inventories() == world.tables()
    assert len(world.inventories()["services"]) == 1
    world.repeat(lambda: world.destroy("a1"))
    assert not any(world.inventories().values())


def test_an_outage_of_the_host_leaves_the_row_and_builds_nothing(world: World) -> None:
    """P33."""
    world.railway.fail("*", "refuse", status=503, times=None)
    answer = world.create("a1")
    assert (answer.status_code, answer.json()["step"]) == (202, "service")
    world.heal()
    assert world.repeat(lambda: world.create("a1")).status_code == 200


def test_no_answer_log_line_address_or_table_holds_a_secret(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    """P41, P43: through building, failing, looking, and taking down."""
    world.simulators["bankr"].fail("create_wallet", "fail_after", status=500)
    shown = [world.create("a1", *ALL_TOOLS).text]
    shown += [world.repeat(lambda: world.create("a1")).text]
    variables = dict(world.environment_of("a1"))
    for path in ("/resources/a1", "/registry", "/limits", "/image", "/inventory/sms", "/inventory/openrouter"):
        answer = world.http.get(path)
        assert answer.status_code == 200
        shown.append(answer.text)
    shown.append(json.dumps(world.run("SELECT to_jsonb(i) AS row FROM services.instances AS i;"), default=str))
    shown.append(json.dumps(world.run("SELECT to_jsonb(l) AS row FROM services.instance_services AS l;"), default=str))
    shown.append(world.repeat(lambda: world.destroy("a1")).text)
    shown += [json.dumps(call.arguments) for one in world.simulators.values() for call in one.calls if one.name != "railway"]
    shown += capfd.readouterr()
    own = ("GATEWAY_TOKEN", "SETUP_PASSWORD", "INSTANCE_SERVICES_TOKEN", "PRIVATE_WALLET_KEY", "OPENROUTER_API_KEY")
    secrets = [variables[name] for name in (*own, "AGENTMAIL_API_KEY", "BANKR_API_KEY")]
    for secret in (*secrets, SERVICES_KEY, world.settings["INSTANCE_SECRETS_KEY"], *VENDOR_KEYS.values()):
        assert not any(secret in text for text in shown)
