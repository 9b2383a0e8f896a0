# What jq has and the interpreter's libraries leave out or do by other means.

def totype(p; e): if p then . else fromjson | if p then . else e end end;
def tonumber: totype(isnumber; error("cannot parse as number"));
def toboolean: totype(isboolean; error("cannot parse as boolean"));
def toarray: if isarray then . else [.] end;

def transpose: if . == [] then [] else [range([.[] | length] | max) as $i | [.[][$i]]] end;
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def index($i): indices($i) | if . == null then null else .[0] end;
def rindex($i): indices($i) | if . == null then null else .[-1:][0] end;
def leaf_paths: paths(scalars);
def ascii: [.] | implode;
def trimstr($s): ltrimstr($s) | rtrimstr($s);
def getpath($path): reduce $path[] as $p (.; .[$p]);
def isvalid(f): try (f | true) catch false;

def @json: tojson;
def @csv: [.[] | if isstring then "\"" + (split("\"") | join("\"\"")) + "\"" elif . == null then "" else tostring end] | join(",");
def @tsv: [.[] | if . == null then "" else tostring | split("\\") | join("\\\\") | split("\t") | join("\\t") | split("\n") | join("\\n") | split("\r") | join("\\r") end] | join("\t");
