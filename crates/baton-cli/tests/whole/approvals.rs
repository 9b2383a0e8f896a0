//! What a person is asked survives the end of the server, and one approval is one call.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::{
    eventually,
    flows::{TALKS, agent, create, ended, talk},
    http::Api,
    process::{Home, Server},
    stub::{Reply, Stub},
};

/// The bank: it counts what it is asked to pay, and may leave a payment without an answer.
struct Bank {
    stub: Stub,
    paid: Arc<Mutex<Vec<String>>>,
}

impl Bank {
    /// `hangs` says which payments get no answer, counted from 1.
    fn start(hangs: impl Fn(usize) -> bool + Send + Sync + 'static) -> Self {
        let paid = Arc::new(Mutex::new(Vec::new()));
        let book = Arc::clone(&paid);
        let stub = Stub::start(move |request| {
            let mut book = book.lock().unwrap();
            book.push(request.header("idempotency-key").to_owned());
            if hangs(book.len()) { Reply::Hang } else { Reply::Json(json!({"paid": request.json()["amount"]})) }
        });
        Self { stub, paid }
    }

    fn payments(&self) -> Vec<String> {
        self.paid.lock().unwrap().clone()
    }

    /// An agent that pays, under a policy.
    fn payer(&self, policy: &Value) -> Value {
        let turns = json!([{"toolCalls": [{"name": "pay", "arguments": {"amount": 5}}]}, {"text": "paid"}]);
        let mut payer = agent(
            "payer",
            &json!({"name": "script", "provider": "playback", "playback": {"conversations": [{"turns": turns}]}}),
        );
        let parameters = json!({"type": "object", "properties": {"amount": {"type": "integer"}}});
        payer["spec"]["tools"] = json!([{"name": "pay", "description": "Pays.", "parameters": parameters, "http": {"method": "POST", "url": format!("{}/pay", self.stub.url())}}]);
        payer["spec"]["policy"] = policy.clone();
        payer
    }
}

/// The approval that the run waits for.
fn asked(api: Api) -> Value {
    let name = eventually("a person is asked", || {
        let run = api.get(&format!("{TALKS}/run")).expect(200);
        run["status"]["waitingFor"][0]["approval"].as_str().map(str::to_owned)
    });
    api.get(&format!("namespaces/default/approvals/{name}")).expect(200)
}

fn decide(api: Api, approval: &Value, body: Value) -> crate::http::Answer {
    let mut body = body;
    body["argumentsDigest"] = approval["spec"]["argumentsDigest"].clone();
    api.post(&format!("namespaces/default/approvals/{}/decide", approval["metadata"]["name"].as_str().unwrap()), &body)
}

fn begin(home: &Home, bank: &Bank, policy: &Value) -> Server {
    let server = home.serve();
    create(server.api, &bank.payer(policy));
    server.api.post(TALKS, &talk("run", "payer")).expect(201);
    server
}

#[test]
fn a_pending_approval_outlives_the_server_and_is_one_call() {
    let (home, bank) = (Home::new(), Bank::start(|_| false));
    let server = begin(&home, &bank, &json!({}));
    let approval = asked(server.api);
    server.kill();
    let server = home.serve();
    let again = asked(server.api);
    assert_eq!((&again["metadata"]["uid"], &again["status"]), (&approval["metadata"]["uid"], &approval["status"]));
    assert_eq!(bank.payments().len(), 0);
    decide(server.api, &approval, json!({"decision": "approve"})).expect(200);
    // It is durable: killed at once, it is carried out by the next server, or ends in doubt, and is never made twice.
    server.kill();
    let server = home.serve();
    let refused = decide(server.api, &approval, json!({"decision": "approve"}));
    assert_eq!(refused.reason(), "APPROVAL_ALREADY_DECIDED");
    eventually("the call was made, or is in doubt", || {
        let run = server.api.get(&format!("{TALKS}/run")).expect(200);
        let waits = run["status"]["waitingFor"][0]["approval"].is_string();
        (waits || run["status"]["phase"] == "Completed").then_some(())
    });
    assert!(bank.payments().len() <= 1, "{:?}", bank.payments());
}

#[test]
fn an_approved_call_is_made_exactly_once() {
    let (home, bank) = (Home::new(), Bank::start(|_| false));
    let server = begin(&home, &bank, &json!({}));
    let approval = asked(server.api);
    server.kill();
    let server = home.serve();
    decide(server.api, &approval, json!({"decision": "approve"})).expect(200);
    assert_eq!(ended(server.api, TALKS, "run")["status"]["output"], "paid");
    server.kill();
    let server = home.serve();
    assert_eq!(server.api.get(&format!("{TALKS}/run")).expect(200)["status"]["phase"], "Completed");
    assert_eq!(bank.payments().len(), 1);
}

/// A run whose payment was under way when the server was killed, and the approval by which it is resolved.
fn doubting(home: &Home, bank: &Bank) -> (Server, Value) {
    let server = begin(home, bank, &json!({"default": "allow"}));
    eventually("the payment is under way", || (bank.payments().len() == 1).then_some(()));
    server.kill();
    let server = home.serve();
    let approval = asked(server.api);
    assert_eq!(approval["spec"]["type"], "InDoubt", "{approval}");
    let run = server.api.get(&format!("{TALKS}/run")).expect(200);
    let conditions = run["status"]["conditions"].as_array().unwrap();
    let doubt = conditions.iter().find(|it| it["type"] == "InDoubt").unwrap();
    assert_eq!(doubt["status"], "True", "{run}");
    assert!(doubt["message"].as_str().unwrap().contains("'pay' (POST "), "the call is shown: {doubt}");
    assert_eq!(bank.payments().len(), 1, "it is not repeated by itself");
    (server, approval)
}

#[test]
fn a_call_in_doubt_is_made_again_when_a_person_says_so() {
    let (home, bank) = (Home::new(), Bank::start(|payment| payment == 1));
    let (server, approval) = doubting(&home, &bank);
    decide(server.api, &approval, json!({"decision": "retry"})).expect(200);
    let run = ended(server.api, TALKS, "run");
    assert_eq!((&run["status"]["phase"], &run["status"]["output"]), (&json!("Completed"), &json!("paid")), "{run}");
    let payments = bank.payments();
    assert!(payments.len() == 2 && payments[0].ends_with("/1") && payments[1].ends_with("/2"), "{payments:?}");
}

#[test]
fn a_call_in_doubt_has_the_result_that_a_person_gives() {
    let (home, bank) = (Home::new(), Bank::start(|payment| payment == 1));
    let (server, approval) = doubting(&home, &bank);
    server.kill();
    let server = home.serve();
    let given = decide(server.api, &approval, json!({"decision": "result", "result": {"paid": "by hand"}}));
    given.expect(200);
    assert_eq!(ended(server.api, TALKS, "run")["status"]["phase"], "Completed");
    let history = server.api.get(&format!("{TALKS}/run/history?limit=1000")).text;
    assert!(history.contains("by hand"), "{history}");
    assert_eq!(bank.payments().len(), 1);
}

#[test]
fn a_call_in_doubt_ends_the_run_when_a_person_says_so() {
    let (home, bank) = (Home::new(), Bank::start(|payment| payment == 1));
    let (server, approval) = doubting(&home, &bank);
    decide(server.api, &approval, json!({"decision": "fail", "reason": "the bank is closed"})).expect(200);
    let run = ended(server.api, TALKS, "run");
    assert_eq!(
        (&run["status"]["phase"], &run["status"]["error"]["type"]),
        (&json!("Failed"), &json!("https://baton.dev/errors/in-doubt"))
    );
    assert!(run["status"]["error"]["detail"].as_str().unwrap().contains("the bank is closed"), "{run}");
    assert_eq!(bank.payments().len(), 1);
}
