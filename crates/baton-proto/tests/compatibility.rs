//! The public API and the disk format may grow, never change: what is compiled now is compared with the committed
//! descriptors. After a compatible change, `UPDATE_DESCRIPTORS=1 cargo test -p baton-proto` commits the new ones.

use std::{collections::BTreeMap, fs, path::PathBuf};

use baton_proto::{DESCRIPTORS, WORKER_DESCRIPTORS};
use prost::Message as _;
use prost_reflect::{DescriptorPool, FieldDescriptor, MessageDescriptor};

fn committed_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../proto").join(name)
}

/// Everything that breaks a reader or writer of `old` when `new` takes its place.
fn incompatible_changes(old: &DescriptorPool, new: &DescriptorPool) -> Vec<String> {
    let mut found = Vec::new();
    for message in old.all_messages().filter(|message| message.full_name().starts_with("baton.")) {
        let name = message.full_name();
        match new.get_message_by_name(name) {
            None => found.push(format!("{name} is gone")),
            Some(now) => compare_fields(&message, &now, &mut found),
        }
    }
    for service in old.services().filter(|service| service.full_name().starts_with("baton.")) {
        let Some(now) = new.get_service_by_name(service.full_name()) else {
            found.push(format!("{} is gone", service.full_name()));
            continue;
        };
        let methods: BTreeMap<_, _> = now.methods().map(|method| (method.name().to_owned(), method)).collect();
        for method in service.methods() {
            let signature = |method: &prost_reflect::MethodDescriptor| {
                (
                    method.input().full_name().to_owned(),
                    method.output().full_name().to_owned(),
                    method.is_client_streaming(),
                    method.is_server_streaming(),
                )
            };
            match methods.get(method.name()) {
                None => found.push(format!("{} is gone", method.full_name())),
                Some(now) if signature(now) != signature(&method) => {
                    found.push(format!("{} has another signature", method.full_name()));
                }
                Some(_) => {}
            }
        }
    }
    found
}

fn compare_fields(old: &MessageDescriptor, new: &MessageDescriptor, found: &mut Vec<String>) {
    let name = old.full_name();
    let shape = |field: &FieldDescriptor| {
        (
            field.name().to_owned(),
            format!("{:?}", field.kind()),
            field.cardinality(),
            field.supports_presence(),
            field.containing_oneof().map(|oneof| oneof.name().to_owned()),
        )
    };
    for field in old.fields() {
        match new.get_field(field.number()) {
            Some(now) if shape(&now) == shape(&field) => {}
            Some(now) => {
                found.push(format!("{name} field {}: was {:?}, is {:?}", field.number(), shape(&field), shape(&now)));
            }
            None => {
                let reserved = new.reserved_ranges().any(|range| range.contains(&field.number()))
                    && new.reserved_names().any(|reserved| reserved == field.name());
                let how = if reserved {
                    "was removed; clients still send and read it"
                } else {
                    "was removed and its number and name are not reserved"
                };
                found.push(format!("{name} field {} ({}) {how}", field.number(), field.name()));
            }
        }
    }
    for range in old.reserved_ranges() {
        for number in range.start..range.end.min(range.start + 1000) {
            if !new.reserved_ranges().any(|range| range.contains(&number)) {
                found.push(format!("{name} number {number} is not reserved any more"));
            }
        }
    }
}

#[test]
fn what_is_committed_can_still_be_read_and_called() {
    check("baton.binpb", DESCRIPTORS);
}

/// Workers and servers of one installation are upgraded one after the other.
#[test]
fn workers_and_servers_of_other_builds_understand_each_other() {
    check("baton-worker.binpb", WORKER_DESCRIPTORS);
}

#[track_caller]
#[expect(clippy::unwrap_used, reason = "what a test cannot do without, it fails without")]
fn check(name: &str, descriptors: &[u8]) {
    let now = DescriptorPool::decode(descriptors).unwrap();
    let path = committed_path(name);
    if let Ok(committed) = fs::read(&path) {
        let found = incompatible_changes(&DescriptorPool::decode(committed.as_slice()).unwrap(), &now);
        assert!(found.is_empty(), "incompatible with {}:\n{}", path.display(), found.join("\n"));
    }
    if std::env::var_os("UPDATE_DESCRIPTORS").is_some() {
        fs::write(&path, descriptors).unwrap();
    }
    assert!(
        fs::read(&path).unwrap() == descriptors,
        "the protos changed compatibly: commit it with UPDATE_DESCRIPTORS=1 cargo test -p baton-proto"
    );
}

#[test]
fn the_check_finds_what_breaks_clients() {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let old = DescriptorPool::decode(DESCRIPTORS).unwrap();
    let change = |edit: &dyn Fn(&mut prost_types::DescriptorProto)| {
        let mut set = set.clone();
        let messages = set.file.iter_mut().flat_map(|file| file.message_type.iter_mut());
        messages.filter(|message| message.name() == "WorkflowExecutionStatus").for_each(edit);
        incompatible_changes(&old, &DescriptorPool::from_file_descriptor_set(set).unwrap())
    };
    assert_eq!(change(&|_| {}), Vec::<String>::new());
    let renumbered = change(&|message| {
        message
            .field
            .iter_mut()
            .filter(|field| field.name() == "temporal_workflow_id")
            .for_each(|field| field.number = Some(30));
    });
    assert_eq!(renumbered.len(), 1, "{renumbered:?}");
    let retyped = change(&|message| {
        message.field.iter_mut().filter(|field| field.name() == "phase").for_each(|field| field.r#type = Some(12));
    });
    assert_eq!(retyped.len(), 1, "{retyped:?}");
    let removed = change(&|message| message.field.retain(|field| field.name() != "phase"));
    assert!(removed[0].contains("not reserved"), "{removed:?}");
    let unreserved = change(&|message| message.reserved_range.clear());
    assert!(unreserved[0].contains("11 is not reserved"), "{unreserved:?}");
}
