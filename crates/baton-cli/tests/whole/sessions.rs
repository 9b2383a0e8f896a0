//! A session outlives its server: who waits has its turn, in order, and is told all that was said before.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use serde_json::{Value, json};

use crate::{
    eventually,
    flows::{TALKS, ended},
    process::Home,
    stub::{Reply, Stub},
};

/// A model that leaves questions without an answer until it is told otherwise.
struct Model {
    stub: Stub,
    asked: Arc<Mutex<Vec<Vec<String>>>>,
    answers: Arc<AtomicBool>,
}

impl Model {
    fn start() -> Self {
        let (asked, answers) = (Arc::<Mutex<Vec<Vec<String>>>>::default(), Arc::<AtomicBool>::default());
        let (book, may) = (Arc::clone(&asked), Arc::clone(&answers));
        let stub = Stub::start(move |request| {
            let body = request.json();
            let said = body["messages"].as_array().unwrap().iter().skip(1);
            let said: Vec<String> = said.map(|it| it["content"].as_str().unwrap().to_owned()).collect();
            let text = format!("re: {}", said.last().unwrap());
            book.lock().unwrap().push(said);
            if !may.load(SeqCst) {
                return Reply::Hang;
            }
            Reply::Json(json!({"choices": [{"message": {"content": text}, "finish_reason": "stop"}]}))
        });
        Self { stub, asked, answers }
    }

    fn turn(&self, name: &str) -> Value {
        let model = json!({"name": "m", "baseUrl": self.stub.url()});
        let spec = json!({"definition": {"instructions": "Answer.", "model": model}, "session": "s", "message": name});
        json!({"apiVersion": "baton.dev/v1", "kind": "AgentExecution", "metadata": {"name": name}, "spec": spec})
    }
}

#[test]
fn killed_with_one_at_its_turn_and_others_waiting_a_server_goes_on_where_it_was() {
    let (home, model) = (Home::new(), Model::start());
    let server = home.serve();
    for name in ["first", "second", "third"] {
        server.api.post(TALKS, &model.turn(name)).expect(201);
    }
    eventually("the first is asked", || (!model.asked.lock().unwrap().is_empty()).then_some(()));
    let second = server.api.get(&format!("{TALKS}/second")).expect(200);
    assert_eq!(second["status"]["phase"], "Pending", "{second}");
    server.kill();

    let server = home.serve();
    let session = server.api.get("namespaces/default/sessions/s").expect(200);
    assert_eq!(
        (&session["status"]["active"]["name"], &session["status"]["queue"]),
        (&json!("first"), &json!(["second", "third"]))
    );
    eventually("the first is asked again", || (model.asked.lock().unwrap().len() == 2).then_some(()));
    // Killed once more, before the answer is there.
    server.kill();
    model.answers.store(true, SeqCst);
    let server = home.serve();
    for name in ["first", "second", "third"] {
        assert_eq!(ended(server.api, TALKS, name)["status"]["phase"], "Completed");
    }
    let asked = model.asked.lock().unwrap().clone();
    assert_eq!(asked[asked.len() - 2], ["first", "re: first", "second"]);
    assert_eq!(asked[asked.len() - 1], ["first", "re: first", "second", "re: second", "third"]);
    let session = eventually("the last turn is over", || {
        let session = server.api.get("namespaces/default/sessions/s").expect(200);
        (session["status"]["turns"] == 3).then_some(session)
    });
    assert!(session["status"].get("active").is_none(), "{session}");
    server.kill();
    let server = home.serve();
    let export = server.api.get("namespaces/default/sessions/s/export").text;
    let turns: Vec<Value> = export.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = turns.iter().map(|turn| turn["execution"].as_str().unwrap()).collect();
    assert_eq!(names, ["first", "second", "third"]);
}
