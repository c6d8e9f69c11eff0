"""From what a file says and what is stored to what would change, or why it must not. Pure."""

from collections.abc import Iterator
from urllib.parse import urlsplit

from routing.engine.catalog import ChainSpec, PolicyDocument
from routing.policy import rules
from routing.policy.parsing import Parsed, nearest
from routing.policy.report import Change, FieldChange
from routing.policy.rules import Problem
from routing.policy.tables import KINDS, Tables, loose_names


class Plan:
    """The policy as it would be, the way there, and everything that speaks against it."""

    def __init__(self, parsed: Parsed, current: PolicyDocument) -> None:
        self.parsed = parsed
        self.before = Tables.of(current)
        # Where in the file an object stands, by kind and key.
        self.paths: dict[tuple[str, str], str] = {}
        self.errors: list[Problem] = [*parsed.problems, *self._repeated()]
        self.after = self._merged()
        self.errors += self._twins()
        self.errors += self._lookalikes()
        self.errors += self._dangling()
        self.errors += self._listed_chains()
        self.errors += self._other_chains()
        self.errors += self._rival_chains()
        self.errors += self._shared_digests()
        self.errors += self._loose_names(known_before=False)
        self.warnings = [
            *self._skipped_members(),
            *self._exposed_keys(),
            *self._loose_names(known_before=True),
        ]
        self.changes = tuple(self._changes())

    def _repeated(self) -> Iterator[Problem]:
        for kind, items in self.parsed.items.items():
            for item in items:
                first = self.paths.setdefault((kind, item.key), item.path)
                if first != item.path:
                    yield Problem(item.path, f"{item.key} is at {first} already; keep one.")

    def _merged(self) -> Tables:
        after = Tables()
        for kind in KINDS:
            pruned = self.parsed.prune and kind in self.parsed.items
            if not pruned:
                after.kind(kind).update(self.before.kind(kind))
            after.kind(kind).update(
                {item.key: item.spec for item in self.parsed.items.get(kind, ())}
            )
        after.drop_orphans(kept=self.paths)
        return after

    def _path(self, kind: str, name: str) -> str | None:
        return self.paths.get((kind, name))

    def _twins(self) -> Iterator[Problem]:
        for name in self.after.models:
            twin = rules.plain_name(name)
            if twin != name and twin in self.after.models:
                path = self._path("models", name) or self._path("models", twin)
                if path is not None:
                    message = f"{twin} and {name} are the same model; keep one of them."
                    yield Problem(f"{path}.name", message)

    def _lookalikes(self) -> Iterator[Problem]:
        for name in self.after.tenants:
            path = self._path("tenants", name)
            twin = rules.lookalike(name, self.after.tenants)
            if path is not None and twin is not None and name not in self.before.tenants:
                message = f"There is a tenant {twin} already; take a name that is not mistaken."
                yield Problem(f"{path}.name", message)

    def _dangling(self) -> Iterator[Problem]:
        for name, offering in self.after.offerings.items():
            if path := self._path("offerings", name):
                yield from self._unknown("models", offering.model, f"{path}.model")
                yield from self._unknown("endpoints", offering.endpoint, f"{path}.endpoint")
        for name, chain in self.after.chains.items():
            if path := self._path("chains", name):
                yield from self._unknown("models", chain.for_model, f"{path}.for_model")
                for index, member in enumerate(chain.models):
                    yield from self._unknown("models", member, f"{path}.models[{index}]")
        for name, api_key in self.after.keys.items():
            if path := self._path("keys", name):
                yield from self._unknown("tenants", api_key.tenant, f"{path}.tenant")
        for name, price in self.after.prices.items():
            if path := self._path("prices", name):
                yield from self._unknown("models", price.model, f"{path}.model")

    def _unknown(self, kind: str, name: str, path: str) -> Iterator[Problem]:
        known = self.after.kind(kind)
        if name and name not in known and name not in self.parsed.broken[kind]:
            yield Problem(path, f"There is no {kind[:-1]} {name}{nearest(name, known)}")

    def _listed_chains(self) -> Iterator[Problem]:
        for name, chain in self.after.chains.items():
            if path := self._path("chains", name):
                for problem in _chain_problems(chain, self.after):
                    yield Problem(f"{path}.{problem.path}", problem.message)

    def _other_chains(self) -> Iterator[Problem]:
        """Yield what the file would break in chains that it does not list."""
        for name, chain in self.after.chains.items():
            if self._path("chains", name):
                continue
            already = set(_chain_problems(chain, self.before))
            for problem in _chain_problems(chain, self.after):
                if problem not in already:
                    yield Problem("chains", f"The chain {name!r} is not listed: {problem}")
            for member in sorted({*chain.models, chain.for_model} - {"", *self.after.models}):
                message = f"The chain {name!r} uses {member}, which would be removed; list it too."
                yield Problem("chains", message)

    def _rival_chains(self) -> Iterator[Problem]:
        owners: dict[tuple[str, str | None], str] = {}
        for name, chain in self.after.enabled_chains():
            rival = owners.setdefault((chain.for_model, chain.for_task), name)
            path = self._path("chains", name) or self._path("chains", rival)
            if rival != name and path is not None:
                field = "for_model" if chain.for_model else "for_task"
                owner = chain.for_model or chain.for_task
                message = f"The chains {rival!r} and {name!r} both stand in for {owner}."
                yield Problem(f"{path}.{field}", f"{message} Disable one of them.")

    def _skipped_members(self) -> Iterator[Problem]:
        offered = self.after.offered()
        for name, chain in self.after.chains.items():
            if path := self._path("chains", name):
                for problem in rules.unreachable_members(chain, self.after.models, offered):
                    yield Problem(f"{path}.{problem.path}", problem.message)

    def _exposed_keys(self) -> Iterator[Problem]:
        for name, endpoint in self.after.endpoints.items():
            path = self._path("endpoints", name)
            parts = urlsplit(endpoint.base_url)
            away = parts.hostname not in ("localhost", "127.0.0.1", "::1")
            if path and endpoint.api_key_ref and parts.scheme == "http" and away:
                yield Problem(f"{path}.base_url", "The key travels unencrypted; use https.")

    def _shared_digests(self) -> Iterator[Problem]:
        owners: dict[str, str] = {}
        for name, api_key in self.after.keys.items():
            owner = owners.setdefault(api_key.digest, name)
            path = self._path("keys", name) or self._path("keys", owner)
            if owner != name and path is not None:
                yield Problem(f"{path}.digest", f"{owner} and {name} are the same key; keep one.")

    def _loose_names(self, *, known_before: bool) -> Iterator[Problem]:
        """Yield names of what is not there, in objects that outlive what they name.

        In an object that was stored with such a name it is a warning, for an export must apply.
        """
        before = {(loose.kind, loose.key, loose.name) for loose in loose_names(self.before)}
        for loose in loose_names(self.after):
            path = self._path(loose.kind, loose.key)
            if path and ((loose.kind, loose.key, loose.name) in before) == known_before:
                yield from self._unknown(loose.wanted, loose.name, f"{path}.{loose.field}")

    def _changes(self) -> Iterator[Change]:
        for kind, spec in KINDS.items():
            before, after = self.before.kind(kind), self.after.kind(kind)
            for name, new in after.items():
                old = before.get(name)
                if old is None:
                    yield Change("added", kind, name)
                elif old != new:
                    fields = tuple(
                        FieldChange(field, getattr(old, field), getattr(new, field))
                        for field in spec.__struct_fields__
                        if getattr(old, field) != getattr(new, field)
                    )
                    yield Change("changed", kind, name, fields)
            for name in before.keys() - after.keys():
                yield Change("removed", kind, name)


def _chain_problems(chain: ChainSpec, tables: Tables) -> Iterator[Problem]:
    yield from rules.chain_owner(chain)
    yield from rules.chain_members(chain, tables.models)
