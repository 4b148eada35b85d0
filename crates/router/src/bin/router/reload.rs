//! Reloading the configuration while the router runs.

use std::collections::BTreeMap;

use gsb_router::{RouterConfig, RouterStatus};

use crate::options::{self, Settings};

/// The options that a reload applies. The others take effect at the next start.
const RELOADED: [&str; 6] = [
    "max-services",
    "max-subscriptions",
    "max-open-calls",
    "queue-limit",
    "memory-limit",
    "log-level",
];

/// Reloads the configuration of a router.
pub(crate) struct Reloader {
    router: RouterStatus,
    /// The values that are in force, by the names of the options.
    in_force: BTreeMap<String, Vec<String>>,
}

impl Reloader {
    /// `settings` are in force.
    pub(crate) fn new(router: RouterStatus, settings: &Settings) -> Self {
        Reloader { router, in_force: settings.values.clone() }
    }

    /// Reads all options again, and applies those that a running router can change. If some cannot be used, everything
    /// stays as it is. Says in the log what has happened.
    pub(crate) fn reload(&mut self) {
        let settings = match self.read_and_set_limits() {
            Ok(settings) => settings,
            Err(problem) => {
                return log::error!(
                    "the configuration was not reloaded, and the old one stays in force: {problem}"
                );
            }
        };
        set_log_level(settings.log_level);
        for warning in &settings.warnings {
            log::warn!("{warning}");
        }
        let is_changed = |name: &&String| self.in_force.get(*name) != settings.values.get(*name);
        let names = settings.values.keys().filter(is_changed);
        let (applied, left): (Vec<_>, Vec<_>) =
            names.cloned().partition(|name| RELOADED.contains(&name.as_str()));
        for name in &left {
            log::warn!("{name} has changed; restart the router for it to take effect");
        }
        let changes: Vec<_> = applied
            .iter()
            .map(|name| format!("{name} = {}", settings.values[name].join(", ")))
            .collect();
        match changes.is_empty() {
            true => log::info!("the configuration was reloaded: nothing has changed"),
            false => log::info!("the configuration was reloaded: {}", changes.join("; ")),
        }
        for name in applied {
            if let Some(values) = settings.values.get(&name) {
                self.in_force.insert(name, values.clone());
            }
        }
    }
}

impl Reloader {
    fn read_and_set_limits(&self) -> Result<Settings, String> {
        let settings = options::read().map_err(|error| options::sentence(&error))?;
        let RouterConfig { limits, memory_limit, .. } = settings.router;
        self.router.set_limits(limits, memory_limit).map_err(|error| error.to_string())?;
        Ok(settings)
    }
}

/// Whether RUST_LOG sets the levels of the log, which then cannot be changed.
pub(crate) fn has_fixed_log_levels() -> bool {
    std::env::var_os(env_logger::DEFAULT_FILTER_ENV).is_some_and(|levels| !levels.is_empty())
}

pub(crate) fn set_log_level(level: log::LevelFilter) {
    if !has_fixed_log_levels() {
        log::set_max_level(level);
    }
}
