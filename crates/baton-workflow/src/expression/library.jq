# The filters of jq that are written in jq. Names that begin with `_` are for this file alone. What calls itself other
# than at its end is listed in library.rs, RECURSIVE.

def empty: {}[] as $never | .;
def error: error_empty as $never | .;
def error(message): message | error;
def null: [][0];
def true: 0 == 0;
def false: 0 != 0;
def not: if . then false else true end;
def select(f): if f then . else empty end;

# Types. Order says what something is: null, false, true, numbers, strings, arrays, objects.
def isboolean: . == true or . == false;
def isnumber: . > true and . < "";
def isstring: . >= "" and . < [];
def isarray: . >= [] and . < {};
def isobject: . >= {};
def type:
  if . == null then "null"
  elif isboolean then "boolean"
  elif . < "" then "number"
  elif . < [] then "string"
  elif . < {} then "array"
  else "object" end;
def values: select(. != null);
def nulls: select(. == null);
def booleans: select(isboolean);
def numbers: select(isnumber);
def strings: select(isstring);
def arrays: select(isarray);
def objects: select(isobject);
def iterables: select(. >= []);
def scalars: select(. < []);
def tostring: "\(.)";
def toarray: if isarray then . else [.] end;
def toboolean: if isboolean then . elif . == "true" then true elif . == "false" then false else error("cannot parse \(tojson) as a boolean") end;

# Numbers.
def _number: if isnumber then . else error("\(tojson) is no number") end;
def isnan: _number | . != .;
def isinfinite: _number | . == infinite or . == -infinite;
def isfinite: isnumber and (isinfinite | not);
def isnormal: _number | fabs >= 2.2250738585072014e-308 and (isinfinite | not);
def normals: select(isnumber and isnormal);
def finites: select(isfinite);
def abs: if . < 0 then -. else . end;
def logb: if . == 0 then -infinite elif isinfinite then infinite elif isnan then . else ilogb end;
def significand: if . == 0 or isinfinite or isnan then . else scalbln(.; -ilogb) end;
def drem($x; $y): remainder($x; $y) | if . == 0 then copysign(.; $x) else . end;
def nexttoward($x; $y): nextafter($x; $y);
def scalb($x; $e): $x * pow(2; $e);
def pow10: exp10;
def have_literal_numbers: true;
def have_decnum: false;

# Loops.
def range($upto): range(0; $upto; 1);
def range($from; $upto): range($from; $upto; 1);
def repeat(f): def again: f, again; again;
def recurse(f): def again: ., (f | again); again;
def recurse(f; cond): recurse(f | select(cond));
def recurse: recurse(.[]?);
def while(cond; update): def again: if cond then ., (update | again) else empty end; again;
def until(cond; update): def again: if cond then . else update | again end; again;
def isempty(g): first((g | false), true);
def all(g; cond): isempty(g | cond and empty);
def any(g; cond): isempty(g | cond or empty) | not;
def all(cond): all(.[]; cond);
def any(cond): any(.[]; cond);
def all: all(.[]; .);
def any: any(.[]; .);
def isvalid(f): try (f | true) catch false;
def nth($n; g): if $n < 0 then error("nth has no results with negative numbers") else first(skip($n; g)) end;

# Arrays and objects.
def first: .[0];
def last: .[-1];
def nth($n): .[$n];
def map(f): [.[] | f];
def map_values(f): .[] |= f;
def add(f): reduce f as $x (null; . + $x);
def add: add(.[]);
def keys: keys_unsorted | sort;
def in(xs): . as $x | xs | has($x);
def inside(xs): . as $x | xs | contains($x);
def min_by(f): reduce min_by_or_empty(f) as $x (null; $x);
def max_by(f): reduce max_by_or_empty(f) as $x (null; $x);
def min: min_by(.);
def max: max_by(.);
def unique_by(f): [group_by(f)[] | .[0]];
def unique: unique_by(.);
def index($i): indices($i) | .[0];
def rindex($i): indices($i) | .[-1:][0];
def transpose: [range([.[] | length] | max // 0) as $i | [.[][$i]]];
def flatten($depth):
  def again($d): reduce .[] as $x ([]; if ($x | isarray) and $d != 0 then . + ($x | again($d - 1)) else . + [$x] end);
  if $depth < 0 then error("the depth of flatten must not be negative") else again($depth) end;
def flatten: flatten(infinite);
def combinations: if length == 0 then [] else .[0][] as $x | (.[1:] | combinations) as $rest | [$x] + $rest end;
def combinations($n): [range($n) as $i | .] | combinations;
def to_entries: [key_values[] as [$key, $value] | {$key, $value}];
def from_entries:
  reduce .[] as $e ({}; .[$e | .key // .Key // .name // .Name] = ($e | if has("value") then .value else .Value end));
def with_entries(f): to_entries | map(f) | from_entries;
def walk(f): def again: if isobject then map_values(again) elif isarray then map(again) else . end | f; again;

# Paths.
def paths: path(..) | select(. != []);
def paths(f): path(.. | select(f)) | select(. != []);
def leaf_paths: paths(scalars);
def getpath($path): if $path | isarray then reduce $path[] as $key (.; .[$key]) else error("a path must be an array") end;
def del(f): delpaths([path(f)]);
def pick(f): . as $whole | reduce path(f) as $path (null; setpath($path; $whole | getpath($path)));
def tostream:
  path(def again: (.[]? | again), .; again) as $path
  | getpath($path)
  | ([path(.[]?)] | last) as $end
  | if $end then [$path + $end] else [$path, .] end;
def fromstream(f):
  foreach f as $event ({};
    if .done then {} else . end
    | if ($event | length) == 2 then .value |= setpath($event[0]; $event[1]) | .done = ($event[0] == [])
      else .done = ($event[0] | length == 1) end;
    if .done then .value else empty end);
def truncate_stream(f): . as $depth | null | f | if (.[0] | length) > $depth then .[0] |= .[$depth:] else empty end;

# Strings.
def join($separator):
  reduce .[] as $x (null;
    (if . == null then "" else . + $separator end)
    + ($x | if isboolean or isnumber then tostring else . // "" end)) // "";
def split($separator): if isstring and ($separator | isstring) then . / $separator else error("split takes a string and a string") end;
def trimstr($s): ltrimstr($s) | rtrimstr($s);
def ascii: [.] | implode;

# Regular expressions. A regular expression may be an array of itself and its flags.
def _pattern: if isstring then [., null] elif isarray and length > 0 then [.[0], .[1]] else error("\(tojson) is no string and no array") end;
def match($re; $flags): _match($re; $flags)[];
def match($re): ($re | _pattern) as [$pattern, $flags] | match($pattern; $flags);
def test($re; $flags): _match($re; $flags) != [];
def test($re): ($re | _pattern) as [$pattern, $flags] | test($pattern; $flags);
def _named: reduce (.captures[] | select(.name != null)) as $c ({}; .[$c.name] = $c.string);
def capture($re; $flags): match($re; $flags) | _named;
def capture($re): match($re) | _named;
def scan($re; $flags): match($re; "g" + $flags) | if .captures == [] then .string else [.captures[].string] end;
def scan($re): scan($re; null);
def split($re; $flags): _split($re; "g" + $flags);
def splits($re; $flags): split($re; $flags)[];
def splits($re): splits($re; null);
def sub($re; f): sub($re; f; "");
def gsub($re; f; $flags): sub($re; f; $flags + "g");
def gsub($re; f): sub($re; f; "g");

# Dates, in UTC.
def todateiso8601: strftime("%Y-%m-%dT%H:%M:%SZ");
def fromdateiso8601: strptime("%Y-%m-%dT%H:%M:%SZ") | mktime;
def todate: todateiso8601;
def fromdate: fromdateiso8601;
def date: todate;
def dateadd(unit; $n): . + $n;
def datesub(unit; $n): . - $n;

# Formats.
def @text: tostring;
def @json: tojson;
def _cell(escape): if isarray or isobject then error("\(tojson) cannot be in a row") elif isstring then escape elif . == null then "" else tostring end;
def _row(escape; $separator): if isarray then [.[] | _cell(escape)] | join($separator) else error("\(tojson) is no array, which a row is") end;
def @csv: _row("\"" + (split("\"") | join("\"\"")) + "\""; ",");
def @tsv: _row(split("\\") | join("\\\\") | split("\t") | join("\\t") | split("\n") | join("\\n") | split("\r") | join("\\r"); "\t");
def @html: tostring | escape_html;
def @uri: tostring | encode_uri;
def @urid: tostring | decode_uri;
def @base64: tostring | encode_base64;
def @base64d: tostring | decode_base64;
def @sh:
  [if isarray then .[] else . end
    | if isstring then "'\(escape_sh)'" elif . >= [] then error("\(tojson) cannot be escaped for a shell") else tostring end]
  | join(" ");
def format($name):
  if $name == "text" then @text elif $name == "json" then @json elif $name == "csv" then @csv elif $name == "tsv" then @tsv
  elif $name == "html" then @html elif $name == "uri" then @uri elif $name == "urid" then @urid elif $name == "sh" then @sh
  elif $name == "base64" then @base64 elif $name == "base64d" then @base64d
  else error("\($name) is no format; formats are text, json, csv, tsv, html, uri, urid, sh, base64 and base64d") end;

# As in SQL.
def INDEX(rows; key): reduce rows as $row ({}; .[$row | key | tostring] = $row);
def INDEX(key): INDEX(.[]; key);
def IN(xs): any(xs == .; .);
def IN(ys; xs): any(ys == xs; .);
def JOIN($index; key): [.[] | [., $index[key]]];
def JOIN($index; rows; key): rows | [., $index[key]];
def JOIN($index; rows; key; f): rows | [., $index[key]] | f;
