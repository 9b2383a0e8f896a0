use expect_test::{Expect, expect};

use super::format;

fn check(text: &str, expected: &Expect) {
    let shown = format("a.yaml", text).unwrap_or_else(|failure| failure.to_string() + "\n");
    expected.assert_eq(&shown);
}

#[test]
fn fields_are_ordered_and_their_comments_go_with_them() {
    check(
        r#"# About the file.

do:
# Gets it.
- fetch:
    with:
        # Where from.
        endpoint: "https://example.com/{id}"   # the desk
        method: "get"
    call: http
    if:   ${ .id != null }

  # Says it.
- tell: { then: end, set: {text: "a, b", n: '1'} }
    # at the end
document: {version: "1.0.0", dsl: '1.0.3', name: x, namespace: default} # what it is
# the end
"#,
        &expect![[r"
            # About the file.

            document: {dsl: 1.0.3, namespace: default, name: x, version: 1.0.0} # what it is

            do:
              # Gets it.
              - fetch:
                  if: ${ .id != null }
                  call: http
                  with:
                    method: get
                    # Where from.
                    endpoint: https://example.com/{id} # the desk

                # Says it.
              - tell: {set: {text: 'a, b', n: '1'}, then: end}
                  # at the end
            # the end
        "]],
    );
}

#[test]
fn texts_keep_what_they_say() {
    check(
        "a: \"line one\\nline two\\n\"\nb: >-\n    folded\n    text\n\n    next\nc: |+\n  kept\n\nd: 'yes'\ne: '${ {a: 1} }'\nf: \"it's\"\ng: \"tab\\there\"\nh:\ni: \"\"\nj: [a, 'b, c', {d: \"e: f\"}]\nk: '12'\nl: 'plain words'\n",
        &expect![[r#"
            a: |
              line one
              line two
            b: >-
              folded
              text

              next
            c: |+
              kept

            d: 'yes'
            e: '${ {a: 1} }'
            f: it's
            g: "tab\there"
            h:
            i: ''
            j: [a, 'b, c', {d: 'e: f'}]
            k: '12'
            l: plain words
        "#]],
    );
}

#[test]
fn what_is_too_long_or_has_comments_is_written_in_lines() {
    let long = "x".repeat(60);
    check(
        &format!("a: [{long}, {long}]\nb: [\n  1, # one\n  2\n]\nc: {{}}\nd: []\n"),
        &expect![[r"
        a:
          - xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
          - xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx
        b:
          - 1 # one
          - 2
        c: {}
        d: []
    "]],
    );
}

#[test]
fn a_resource_is_ordered_and_free_data_is_not() {
    check(
        "spec:\n  definition:\n    do: [{a: {set: {z: 1, a: 2}}}]\n    document: {dsl: 1.0.3, namespace: d, name: n, version: 1.0.0}\nmetadata:\n  labels: {z: a, a: z}\n  name: n\nkind: Workflow\napiVersion: baton.dev/v1\n---\ninstructions: x\nmodel: {name: y}\n",
        &expect![[r"
            apiVersion: baton.dev/v1
            kind: Workflow
            metadata:
              name: n
              labels: {z: a, a: z}
            spec:
              definition:
                document: {dsl: 1.0.3, namespace: d, name: n, version: 1.0.0}
                do: [{a: {set: {z: 1, a: 2}}}]
            ---
            instructions: x
            model: {name: y}
        "]],
    );
}

#[test]
fn what_cannot_be_kept_is_left_as_it_is() {
    for (text, says) in [
        ("a: &x 1\nb: *x\n", "is left as it is; it has anchors, aliases or tags"),
        ("a: !t 1\n", "tags such as !name are not supported"),
        ("%YAML 1.2\n---\na: 1\n", "it has directives"),
        ("a: [1\n", "unclosed bracket '['"),
        ("a: 1\n---\n---\nb: 1\n", "it has documents that hold nothing"),
    ] {
        let failure = format("a.yaml", text).unwrap_err().to_string();
        assert!(failure.contains(says), "{text}: {failure}");
    }
}
