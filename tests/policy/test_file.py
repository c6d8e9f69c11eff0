"""The policy as a file: what it says, what is refused, and that applying twice changes nothing."""

from decimal import Decimal
from textwrap import dedent

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User

from routing.engine.catalog import PolicyDocument
from routing.models import FallbackChain, Model, Offering, Origin
from routing.policy.export import document_from_orm, policy_version
from routing.policy.file import apply_policy, check_policy, export_policy
from routing.policy.report import Change, FieldChange, Report
from routing.policy.seed import seed
from routing.policy.tables import KINDS
from tests.policy.catalogue import a_chain, a_model, an_endpoint, an_offering

pytestmark = pytest.mark.django_db

WHOLE = """\
models:
  - name: small
    capabilities: [completion, code]
    quality_tier: basic
    cost_per_1k_input_usd: 0.00015
    cost_per_1k_output_usd: 0.0006
  - {name: big, capabilities: [completion], quality_tier: high, best_for: [completion]}
endpoints:
  - {name: cloud, provider: openai, base_url: "https://api.example.com/v1/", api_key_ref: env:KEY}
offerings:
  - {model: small, endpoint: cloud, upstream_model: vendor/small-1}
  - {model: big, endpoint: cloud}
chains:
  - {name: after big, for_model: big, models: [small]}
profiles:
  - priority: low
    quality_weight: 1
    cost_weight: 5
    latency_weight: 1
    memory_weight: 1
    success_weight: 0.5
"""


def apply(text: str, actor: str = "tests") -> Report:
    return apply_policy(dedent(text), actor=actor)


def errors(text: str) -> list[str]:
    """Return the errors of a text; also asserts that it is not applied."""
    before = document_from_orm()
    report = apply(text)
    assert not report.applied
    assert report.changes == ()
    assert document_from_orm() == before
    return [f"{error.path}: {error.message}" for error in report.errors]


def test_a_whole_policy_is_applied() -> None:
    report = apply(WHOLE)
    assert [str(error) for error in report.errors] == []
    document = document_from_orm()
    small = next(model for model in document.models if model.name == "small")
    assert small.cost_per_1k_input_usd == Decimal("0.00015")
    assert document.endpoints[0].base_url == "https://api.example.com/v1"
    assert document.chains[0].models == ("small",)
    assert [change.action for change in report.changes] == ["added"] * 7
    assert report.version == document.version == policy_version()
    assert Model.objects.get(name="small").origin == Origin.FILE


@pytest.mark.django_db(transaction=True)
def test_applying_again_changes_nothing() -> None:
    version = apply(WHOLE).version
    report = apply(WHOLE)
    assert report.changes == ()
    assert (report.applied, report.version, policy_version()) == (True, version, version)
    assert report.text() == f"Nothing to change; the policy is at version {version}."


def test_an_export_says_all_there_is(simulated_seed: None) -> None:
    apply(WHOLE.replace("after big", 'na\u00efve: "quoted" # chain'))
    text = export_policy()
    before = document_from_orm()
    report = apply(text)
    assert report.changes == ()
    for table in (Offering, FallbackChain, Model):
        table.objects.all().delete()
    apply(text)
    assert document_from_orm() == PolicyDocument(
        **{name: getattr(before, name) for name in before.__struct_fields__ if name != "version"},
        version=policy_version(),
    )


@pytest.fixture
def simulated_seed() -> None:
    seed(ollama_url="http://127.0.0.1:11434", simulated=True)


def test_an_empty_policy_is_exported_and_applied() -> None:
    assert apply(export_policy()).ok
    assert apply("").ok
    assert apply("# nothing\n").ok


@pytest.mark.django_db(transaction=True)
def test_check_tells_what_would_change_and_changes_nothing() -> None:
    apply(WHOLE)
    version = policy_version()
    text = WHOLE.replace("quality_tier: basic", "quality_tier: good").replace("0.00015", "1.5e-4")
    report = check_policy(text)
    assert report.changes == (
        Change("changed", "models", "small", (FieldChange("quality_tier", "basic", "good"),)),
    )
    assert not report.applied
    assert policy_version() == version
    assert report.text() == (
        "changed models small\n        quality_tier: basic -> good\n"
        "1 changed; nothing is applied yet."
    )


def test_a_changed_field_counts_as_edited() -> None:
    a_model("found", by=Origin.DISCOVERY, ram_required_gb=3.5)
    apply(
        """
        models:
          - {name: found, capabilities: [completion], quality_tier: high, ram_required_gb: 3.5}
        """
    )
    model = Model.objects.get()
    assert (model.origin, model.edited_fields) == (Origin.DISCOVERY, ["quality_tier"])


def test_what_the_file_does_not_name_stays_without_prune() -> None:
    apply(WHOLE)
    report = apply("models: [{name: other, capabilities: [code], quality_tier: good}]")
    assert [(c.action, c.name) for c in report.changes] == [("added", "other")]


def test_prune_removes_within_the_sections_that_the_file_has() -> None:
    apply(WHOLE)
    report = apply(
        """
        prune: true
        models:
          - {name: big, capabilities: [completion], quality_tier: high, best_for: [completion]}
        chains: []
        """
    )
    assert [str(error) for error in report.errors] == []
    assert {(c.action, c.kind, c.name) for c in report.changes} == {
        ("removed", "models", "small"),
        ("removed", "offerings", "small@cloud"),
        ("removed", "chains", "after big"),
    }
    assert [offering.model for offering in document_from_orm().offerings] == ["big"]
    assert len(document_from_orm().profiles) == 1


def test_prune_does_not_break_a_chain_behind_ones_back() -> None:
    apply(WHOLE)
    assert errors("{prune: true, models: []}") == [
        "chains: The chain 'after big' uses big, which would be removed; list it too.",
        "chains: The chain 'after big' uses small, which would be removed; list it too.",
    ]


def test_chains_may_swap_their_owners_and_order() -> None:
    one, two, three = a_model("one"), a_model("two"), a_model("three")
    a_chain("first", three, for_model=one)
    a_chain("second", three, for_model=two)
    report = apply(
        """
        chains:
          - {name: first, for_model: two, models: [one, three]}
          - {name: second, for_model: one, models: [three, two]}
        """
    )
    assert [str(error) for error in report.errors] == []
    assert [(c.for_model, c.models) for c in document_from_orm().chains] == [
        ("two", ("one", "three")),
        ("one", ("three", "two")),
    ]


def test_everything_wrong_is_told_at_once_with_its_line() -> None:
    report = check_policy(
        dedent(
            """\
            modles: []
            models:
              - name: a
                capabilities: [completion, cooking]
                quality_teir: good
                context_length: 0
              - {name: b, capabilities: [], quality_tier: best, ram_required_gb: lots}
            endpoints:
              - {name: c, provider: openai, base_url: "https://user:pass@example.com/v1"}
            prune: maybe
            """
        )
    )
    assert [str(error) for error in report.errors] == [
        "line 1: modles: Unknown field; did you mean models?",
        "line 3: models[0].quality_tier: This field is required.",
        "line 4: models[0].capabilities[1]: Unknown value cooking."
        " It is one of completion, reasoning, code, embedding, analysis.",
        "line 5: models[0].quality_teir: Unknown field; did you mean quality_tier?",
        "line 6: models[0].context_length: Expected a whole number >= 1.",
        "line 7: models[1].capabilities: Name at least one task that the model can do.",
        "line 7: models[1].quality_tier: Unknown value best."
        " It is one of basic, good, high, exceptional.",
        "line 7: models[1].ram_required_gb: Expected a number, got text.",
        "line 9: endpoints[0].base_url: Take the user and password out; name the key in"
        " api_key_ref instead.",
        "line 10: prune: Write true or false.",
    ]
    assert report.text().endswith("10 errors; nothing was changed.")


MODEL = "{name: m, capabilities: [completion], quality_tier: good"
ENDPOINT = "{name: e, provider: ollama, base_url: 'http://h:1'"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("just text", f": Write a mapping with {', '.join(KINDS)}."),
        ("models: {a: 1}", "models: Write a list; `[]` for none."),
        ("models: [a]", "models[0]: Write a mapping of fields."),
        ("version: 3", "version: Versions are counted, not given; take it out."),
        (f"models: [{MODEL}, name: n}}]", "models[0].name: name is given twice; keep one."),
        (f"models: [{MODEL}}}, {MODEL}}}]", "models[1]: m is at models[0] already; keep one."),
        (
            f"models: [{MODEL}}}, {MODEL.replace('name: m', 'name: m:latest')}}}]",
            "models[1].name: m and m:latest are the same model; keep one of them.",
        ),
        ("models: [{name: no, capabilities: [code], quality_tier: good}]",
         "models[0].name: Expected text, got true or false; put it in quotes."),
        (f"models: [{MODEL}, cost_per_1k_input_usd: -1}}]",
         "models[0].cost_per_1k_input_usd: A price is zero or more; leave"
         " it out where it is not known."),
        (f"models: [{MODEL}, cost_per_1k_input_usd: 0.0000000001}}]",
         "models[0].cost_per_1k_input_usd: A price has at most 9 decimals (nano-dollars)."),
        (f"models: [{MODEL}, cost_per_1k_input_usd: .nan}}]",
         "models[0].cost_per_1k_input_usd: Invalid decimal string."),
        (f"models: [{MODEL}, ram_required_gb: .inf}}]",
         "models[0].ram_required_gb: Expected a number, got text."),
        (f"endpoints: [{ENDPOINT}, api_key_ref: sk-secret}}]",
         "endpoints[0].api_key_ref: Give a reference, never the ke"
         "y: env:NAME or file:/absolute/path."),
        ("endpoints: [{name: e, provider: ollama, base_url: 'ftp://h'}]",
         "endpoints[0].base_url: Start it with http:// or https://."),
        ("endpoints: [{name: e, provider: ollama, base_url: 'http://169.254.169.254'}]",
         "endpoints[0].base_url: 169.254.169.254 is never a model server (link-local, multicast or"
         " unspecified)."),
        ("offerings: [{model: smal, endpoint: desk}]",
         "offerings[0].model: There is no model smal; did you mean small?"),
        ("offerings: [{model: small, endpoint: dask}]",
         "offerings[0].endpoint: There is no endpoint dask; did you mean desk?"),
        ("offerings: [{model: small, endpoint: desk, keep_alive: soon}]",
         "offerings[0].keep_alive: Write a duration like 5m or 1h"
         "30m, seconds like 300, or -1 for ever."),
        ("chains: [{name: c, for_task: completion, models: []}]",
         "chains[0].models: Name at least one model to fall back on."),
        ("chains: [{name: c, for_task: completion, models: [small, small]}]",
         "chains[0].models[1]: small is in this chain already; a second time does nothing."),
        ("chains: [{name: c, for_model: small, models: [small]}]",
         "chains[0].models[0]: small would fall back on itself; take it out."),
        ("chains: [{name: c, for_task: embedding, models: [small]}]",
         "chains[0].models[0]: small lacks the capability embedding; take it out."),
        ("chains: [{name: c, for_model: small, models: [vectors]}]",
         "chains[0].models[0]: vectors can do nothing that small does; take it out."),
        ("chains: [{name: c, models: [small]}]",
         "chains[0].for_model: Give for_model or for_task; nothing would use this chain."),
        ("chains: [{name: c, for_model: small, for_task: code, models: [big]}]",
         "chains[0].for_task: Give for_model or for_task, not both."),
        ("chains: [{name: c, for_task: code, models: [big]}]",
         "chains[0].for_task: The chains 'coders' and 'c' bo"
         "th stand in for code. Disable one of them."),
        ("models: [{name: big, capabilities: [completion], quality_tier: good}]",
         "chains: The chain 'coders' is not list"
         "ed: models[0]: big lacks the capability code; take it out."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_path(text: str, expected: str) -> None:
    small = a_model("small")
    big = a_model("big", capabilities=["completion", "code"])
    a_model("vectors", capabilities=["embedding"])
    an_offering(small, an_endpoint("desk"))
    a_chain("coders", big, for_task="code")
    assert expected in errors(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("models: [&a {name: m}, *a]", "line 1: Aliases (*name) are not accepted; write it out."),
        ("models:\n  - !!python/object:os.system {}",
         "line 2: Tags (tag:yaml.org,2002:python/object:os.system) are not accepted."),
        ("[" * 5000, "line 1: This is nested too deep to be a policy."),
        ("models: [}", "line 1: This is not YAML: did not find expected node content."),
        ("a: 1\n---\nb: 2", "line 2: A policy file is one document; take the second out."),
        ("{[1]: 2}", "line 1: A field's name is plain text."),
        ("models: \x07", "This is not YAML: it holds characters that YAML excludes."),
        ("models: \udc80", "This is not YAML: it holds characters that YAML excludes."),
        ("#" * (8 * 2**20 + 1), "The file is larger than 8 MiB; split it."),
    ],
)  # fmt: skip
def test_what_is_no_policy_file_is_refused(text: str, expected: str) -> None:
    report = apply_policy(text, actor="tests")
    assert [str(error) for error in report.errors] == [expected]
    assert not report.applied


def test_members_that_will_be_skipped_are_a_warning() -> None:
    a_model("asleep", enabled=False)
    a_model("unoffered")
    report = apply("chains: [{name: c, for_task: completion, models: [asleep, unoffered]}]")
    assert report.applied
    assert [str(warning) for warning in report.warnings] == [
        "line 1: chains[0].models[0]: asleep is disabled and will be skipped.",
        "line 1: chains[0].models[1]: No endpoint offers unoffered; it will be skipped.",
    ]


def test_a_key_over_plain_http_is_a_warning() -> None:
    text = "endpoints: [{name: e, provider: openai, base_url: 'http://%s/v1', api_key_ref: env:K}]"
    assert not check_policy(text % "127.0.0.1:8000").warnings
    (warning,) = check_policy(text % "api.example.com").warnings
    assert warning.message == "The key travels unencrypted; use https."


def test_the_history_says_who_did_it() -> None:
    User.objects.create(username="ada")
    apply(WHOLE, actor="ada")
    apply(WHOLE.replace("quality_tier: basic", "quality_tier: good"), actor="ada")
    apply("{prune: true, chains: []}", actor="ada")
    told = LogEntry.objects.order_by("id").values_list("object_repr", "change_message")
    assert ("small@cloud", "Policy file: added.") in told
    assert ("small", "Policy file: changed quality_tier.") in told
    assert ("after big", "Policy file: removed.") in told


def test_thousands_of_offerings_are_handled() -> None:
    models = "".join(
        f"  - {{name: m{n}, capabilities: [code], quality_tier: good}}\n" for n in range(200)
    )
    endpoints = "".join(
        f"  - {{name: e{n}, provider: openai, base_url: 'http://10.0.0.{n}:80'}}\n"
        for n in range(10)
    )
    offerings = "".join(
        f"  - {{model: m{m}, endpoint: e{e}}}\n" for m in range(200) for e in range(10)
    )
    report = apply(f"models:\n{models}endpoints:\n{endpoints}offerings:\n{offerings}")
    assert len(report.changes) == 2210
    assert apply(export_policy()).changes == ()
