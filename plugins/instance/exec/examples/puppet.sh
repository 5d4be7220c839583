#!/bin/sh
# A flavor whose members are configured by Puppet: they run the agent at first boot, are healthy once PuppetDB has a report
# of them that succeeded, and leave Puppet when they are drained.
#   PUPPET_SERVER=puppet.example.com infrakit plugin start exec:puppet --set program=/path/to/puppet.sh
# Properties: none. It needs python3, curl and, for the drain, `puppet`.
set -eu

# The certname of an instance is its logical id, or else the id that its provider gives it.
certname() {
    python3 -c 'import json, sys
instance = json.load(sys.stdin)["Instance"]
print(instance.get("LogicalID") or instance["ID"])'
}

case "$1 ${2:-}" in
"interfaces ")
    echo flavor
    ;;
"flavor prepare")
    : "${PUPPET_SERVER:?the Puppet server}"
    python3 -c 'import json, os, shlex, sys
about = json.load(sys.stdin)
spec = about["Spec"]
agent = "#!/bin/sh\npuppet agent --server %s --onetime --no-daemonize --waitforcert 60" % shlex.quote(os.environ["PUPPET_SERVER"])
if spec.get("LogicalID"):
    agent += " --certname " + shlex.quote(spec["LogicalID"])
spec["Init"] = "\n".join(part for part in (spec.get("Init"), agent) if part)
print(json.dumps(spec))'
    ;;
"flavor healthy")
    name=$(certname)
    node=$(curl -fsS --max-time 5 "${PUPPETDB:-http://localhost:8080}/pdb/query/v4/nodes/$name") || exit 75
    # One that was drained has the report of the machine before.
    printf '%s' "$node" | python3 -c 'import json, sys
node = json.load(sys.stdin)
status = node.get("latest_report_status")
if node.get("deactivated") or status is None:
    sys.exit(75)
if status not in ("changed", "unchanged"):
    print("the last run of Puppet on %s: %s" % (node["certname"], status), file=sys.stderr)
    sys.exit(1)'
    ;;
"flavor drain")
    name=$(certname)
    puppet node deactivate "$name" >&2
    ;;
*)
    exit 64
    ;;
esac
