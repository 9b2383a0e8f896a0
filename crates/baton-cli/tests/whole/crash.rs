//! Killed again and again under load, over one data directory: what was acknowledged is there and ends as it should,
//! recorded results are not asked for again, and every caller gets one answer.

mod check;
mod load;
mod world;

use std::{
    collections::HashMap,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use self::{
    load::{Deleted, Flow, Run, create_until_killed, delete, repeat},
    world::World,
};
use crate::{
    flows::{AGENTS, RUNS, WORKFLOWS, run},
    http::Api,
    process::{Home, Server},
};

/// How often the server is killed.
const ROUNDS: u64 = 14;
/// Clients that create at the same time.
const CLIENTS: usize = 3;
/// Moments of the kill after the load has begun, in milliseconds.
const KILL_MS: (u64, u64) = (5, 600);
/// Of the order of the moments, and of the mix.
const SEED: u64 = 0x5eed;

/// The moments: spread evenly, in an order that the seed decides.
fn moments() -> Vec<Duration> {
    let (first, last) = KILL_MS;
    let mut moments: Vec<u64> = (0..ROUNDS).map(|round| first + (last - first) * round / (ROUNDS - 1)).collect();
    let mut state = SEED;
    for at in (1..moments.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        moments.swap(at, usize::try_from(state >> 33).unwrap() % (at + 1));
    }
    moments.into_iter().map(Duration::from_millis).collect()
}

/// All that the rounds leave to be checked.
struct Story {
    world: Arc<World>,
    /// Acknowledged, or repeated until they were.
    runs: Vec<Run>,
    /// An upper bound of the calls that a kill can have caught in flight, over all kills.
    in_flight_max: usize,
    /// Kills that came while something was running.
    kills_under_load: usize,
    /// What all processes said.
    said: String,
}

#[test]
fn nothing_is_lost_and_nothing_runs_twice() {
    let home = Home::new();
    let mut story =
        Story { world: World::start(), runs: Vec::new(), in_flight_max: 0, kills_under_load: 0, said: String::new() };
    for (round, moment) in moments().into_iter().enumerate() {
        story.round(&home, round, moment);
    }
    let server = home.serve();
    story.world.reach(Some(server.api));
    story.repeat_what_was_lost(server.api);
    check::everything(&story, server.api);
    story.said.push_str(&server.stop().stderr);
    let odd: Vec<&str> =
        story.said.lines().filter(|line| line.contains(" ERROR ") || line.contains("panicked")).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(
        story.kills_under_load > story.said.matches("server started").count() / 2,
        "{} kills came under load",
        story.kills_under_load
    );
}

impl Story {
    fn round(&mut self, home: &Home, round: usize, moment: Duration) {
        let server = home.serve();
        let api = server.api;
        self.world.reach(Some(api));
        if round == 0 {
            create_templates(api, &self.world);
        }
        let open = open_runs(api);
        self.repeat_what_was_lost(api);
        repeat_what_was_acknowledged(api, &self.runs);
        let known = self.runs.len();
        self.load_and_kill(server, round, moment);
        let created = self.runs.len() - known;
        self.in_flight_max += open + 2 * created;
        self.kills_under_load += usize::from(created > 0);
    }

    /// Clients create until the server is gone, which is at `moment` after they began.
    fn load_and_kill(&mut self, server: Server, round: usize, moment: Duration) {
        let (api, world) = (server.api, &self.world);
        let (begun, begins) = mpsc::channel();
        // Nobody sends here: the moment is reached by waiting for what does not come.
        let (_nobody, silence) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let create = |client| {
                let begun = begun.clone();
                scope.spawn(move || {
                    begun.send(()).unwrap();
                    create_until_killed(api, round, client)
                })
            };
            let clients: Vec<_> = (0..CLIENTS).map(create).collect();
            begins.recv().unwrap();
            assert_eq!(silence.recv_timeout(moment), Err(mpsc::RecvTimeoutError::Timeout));
            self.said.push_str(&server.kill());
            world.reach(None);
            for client in clients {
                self.runs.extend(client.join().unwrap());
            }
        });
    }

    /// Creates and deletions whose answer was lost are sent again as they were.
    fn repeat_what_was_lost(&mut self, api: Api) {
        for run in self.runs.iter_mut().filter(|run| run.uid.is_none()) {
            run.uid = Some(repeat(api, run, &[200, 201]));
        }
        for run in self.runs.iter_mut().filter(|run| run.deleted == Deleted::Asked) {
            delete(api, run).unwrap();
        }
    }
}

/// A repeat of a create finds the execution that is there.
fn repeat_what_was_acknowledged(api: Api, runs: &[Run]) {
    for run in runs.iter().rev().filter(|run| run.deleted == Deleted::Never).take(5) {
        assert_eq!(Some(repeat(api, run, &[200])), run.uid, "{}", run.name);
    }
}

/// Executions of both kinds that have not ended.
fn open_runs(api: Api) -> usize {
    all(api).values().filter(|object| !check::is_terminal(object)).count()
}

/// Every execution of both kinds by kind and name.
fn all(api: Api) -> HashMap<(String, String), Value> {
    let mut found = HashMap::new();
    for collection in ["workflowexecutions", "agentexecutions"] {
        let mut next = String::new();
        loop {
            let page = api.get(&format!("namespaces/default/{collection}?limit=200&continue={next}")).expect(200);
            for object in page["items"].as_array().into_iter().flatten() {
                found.insert(
                    (collection.to_owned(), object["metadata"]["name"].as_str().unwrap().to_owned()),
                    object.clone(),
                );
            }
            match page["metadata"]["continue"].as_str() {
                Some(more) if !more.is_empty() => more.clone_into(&mut next),
                _ => break,
            }
        }
    }
    found
}

fn create_templates(api: Api, world: &World) {
    for object in load::templates(world.url()) {
        let path = if object["kind"] == "Agent" { AGENTS } else { WORKFLOWS };
        api.post(path, &object).expect(201);
    }
    // The mix is what it says: every flow is known to the server.
    for flow in Flow::ALL {
        assert_eq!(api.post(&format!("{RUNS}?dryRun=All"), &with_input(run("probe", flow.workflow()))).status, 201);
    }
}

fn with_input(mut run: Value) -> Value {
    run["spec"]["input"] = json!({"run": run["metadata"]["name"]});
    run
}
