//! The workflow language on a whole server: the specification's conformance kit, its examples, and events, with either engine.
//!
//! Every test runs twice, on the embedded engine and on Temporal. Documents are created and run as a user does it, through
//! store, admission and engine. The public servers that they name are one server of the test; nothing leaves the machine.
#![expect(clippy::unwrap_used, reason = "a test")]

mod events;
mod examples;
#[path = "../../../baton-workflow/tests/support/kit.rs"]
mod kit;
mod site;
mod world;

use kit::scenarios;
use site::Site;

macro_rules! on_both_engines {
    ($($group:ident: $($case:ident),+;)+) => {
        mod embedded {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$group::$case(super::site::Engine::Embedded).await;
            })+)+
        }
        mod on_temporal {
            $($(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$group::$case(super::site::Engine::Temporal).await;
            })+)+
        }
    };
}

on_both_engines! {
    conformance: the_kit_passes;
    examples: examples_run;
    events: what_is_emitted_is_heard, a_listener_outlives_a_restart, who_is_cancelled_listens_no_more;
}

mod conformance {
    use super::{Site, kit, scenarios, site::Engine};

    pub(crate) async fn the_kit_passes(engine: Engine) {
        let site = Site::start(engine).await;
        let mut outcomes = Vec::new();
        for (number, scenario) in scenarios(|text| site.world.near(text)).into_iter().enumerate() {
            let name = format!("scenario-{number}");
            site.here().run(&name, &scenario.definition, &scenario.input).await;
            outcomes.push((scenario, site.here().outcome(&name).await));
        }
        kit::verify(&outcomes);
        site.stop().await;
    }
}
