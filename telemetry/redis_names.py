"""Every name this project uses in Redis."""

PREFIX = "ai-orchestra:"
POLICY_SNAPSHOT = PREFIX + "policy:snapshot"  # MessagePack of a PolicyDocument
POLICY_VERSION = PREFIX + "policy:version"  # the snapshot's version, as text; cheap to poll
POLICY_PROBER = PREFIX + "policy:prober"  # lock: who probes the endpoints
POLICY_CHANNEL = PREFIX + "policy"  # the new version, as text
CAPABILITY = PREFIX + "capability:"  # + model name: JSON, the ModelCapability contract
STATE_CHANNEL = PREFIX + "state"  # MessagePack of a state message
STATE_LAST = PREFIX + "state:last"  # hash: last state message by key, for a new worker
# + "model@endpoint": the worker whose probe is under way. The braces keep it in the slot of
# STATE_LAST, for a script that reads both.
PROBE = "{" + STATE_LAST + "}:probe:"
EVENTS_OUT = PREFIX + "events"  # stream: what this project publishes
# + id: this event was published, and is not again. In the slot of EVENTS_OUT, for a script of both.
EVENTS_SENT = "{" + EVENTS_OUT + "}:sent:"
EVENTS_IN = PREFIX + "events:in"  # stream: what other services tell this one
EVENTS_REJECTED = PREFIX + "events:rejected"  # stream: what came in malformed, with the reason
EVENTS_IN_GROUP = "conductors"  # consumer group of EVENTS_IN; remembers what was dealt with
LIVE_LAST = PREFIX + "live:last"  # JSON: the last state sent to dashboards, for a new one
LOADS = PREFIX + "loads"  # hash: by conductor, MessagePack of [at, {model: requests in flight}]
IDEMPOTENCY = PREFIX + "idempotency:"  # + keyed hash: who makes an answer, or the sealed answer
PRESSED_HOSTS = PREFIX + "hosts:pressed"  # set: reporting hosts whose crossing was told
RESERVATIONS = PREFIX + "reservations:"  # + host: hash, memory promised to loads, by what is loaded
BUDGETS_CHANNEL = PREFIX + "budgets"  # 16 bytes of the window that is short, 16 of whose lease
SLOTS = PREFIX + "slots:"  # + endpoint: hash, who holds how many of its places
SLOTS_CHANNEL = PREFIX + "slots"  # the name of an endpoint somebody waits for, or gave back
RATES = PREFIX + "rates:"  # + limit: hash, when it is full, and who holds how many units
RATES_WORKERS = PREFIX + "rates-workers"  # sorted set: workers that heed limits, by their last beat
RATES_CHANNEL = PREFIX + "rates"  # the limit of which somebody needs what others hold
