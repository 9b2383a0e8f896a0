//! Drives a Program in tests and, with every input, proves what engines rely on: that a replay from the
//! start and a restore from a snapshot give the same commands as the first run.

use crate::{Command, Input, Program, Recorded};

type Make = Box<dyn Fn() -> Box<dyn Program>>;
type Restore = Box<dyn Fn(&[u8]) -> Box<dyn Program>>;

/// A Program under test, with the history that led to its present state.
pub struct Harness {
    make: Make,
    restore: Restore,
    program: Box<dyn Program>,
    history: Vec<(Recorded, Vec<Command>)>,
    /// The time of the next input, in milliseconds since 1970; tests advance it.
    pub now_ms: i64,
}

impl Harness {
    /// A harness around the Program that `make` makes anew and `restore` makes from a snapshot.
    pub fn new(
        make: impl Fn() -> Box<dyn Program> + 'static,
        restore: impl Fn(&[u8]) -> Box<dyn Program> + 'static,
    ) -> Self {
        let program = make();
        Self {
            make: Box::new(make),
            restore: Box::new(restore),
            program,
            history: Vec::new(),
            now_ms: 1_800_000_000_000,
        }
    }

    /// Gives one input and returns the commands.
    ///
    /// # Panics
    /// If the Program refuses the input, or if a replay or a restored snapshot behaves differently.
    pub fn give(&mut self, input: Input) -> Vec<Command> {
        let recorded = Recorded { time_ms: self.now_ms, input };
        let mut restored = (self.restore)(&self.program.snapshot());
        let commands = self.program.on_input(&recorded).expect("the program takes the input");
        assert_eq!(
            restored.on_input(&recorded).expect("the restored program takes the input"),
            commands,
            "a restored snapshot must behave alike"
        );
        self.history.push((recorded, commands.clone()));
        self.check_replay();
        commands
    }

    /// The Program as it stands.
    pub fn program(&self) -> &dyn Program {
        self.program.as_ref()
    }

    fn check_replay(&self) {
        let mut replayed = (self.make)();
        for (number, (recorded, commands)) in self.history.iter().enumerate() {
            let again = replayed.on_input(recorded).expect("a replay takes the input");
            assert_eq!(&again, commands, "replay differs at input {number}");
        }
        assert_eq!(replayed.snapshot(), self.program.snapshot(), "a replay must end in the same state");
    }
}
