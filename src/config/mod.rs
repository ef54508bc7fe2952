//! File, variables and flags → `Config`, whose values cannot be wrong.
//!
//! Two steps: `layers` mirrors what was written, `resolve` checks it. `keys` is the table of all
//! there is; config/example.toml is made of it. Nothing here starts, binds or logs anything.

mod command;
mod count;
mod describe;
mod environment;
mod error;
mod health;
mod host;
mod keys;
mod layers;
mod listen;
mod nearest;
pub(crate) mod placeholder;
mod request;
mod resolve;
mod runtime_dir;
mod settings;
mod size;
mod value;

pub use command::Kind;
#[cfg(test)]
pub(crate) use command::SUBCOMMANDS;
pub(crate) use command::{instead_of_manager, is_script, nearest_subcommand};
pub use count::{COUNT_MAX, Capacity, CountReason};
pub use describe::Setting;
pub(crate) use describe::describe;
pub use environment::Environment;
pub use error::{ConfigError, ConfigErrors};
pub use health::{Hang, WorkerHealth};
pub use host::{Denied, HostFacts, Nofile};
pub use keys::{Change, Example, KEYS, Key, example};
pub(crate) use layers::{Flag, Layers};
pub use listen::{Address, AppAddress, Backlog, Host, Listen, ListenOptions, Listeners, Protocol};
pub use placeholder::Placeholder;
pub use request::{
    Headers, MaxClients, Poison, ProxyProtocol, RequestLimits, RequestSettings, Route, Routes,
    ShedAnswer, Sticky, Timeouts, TrustedProxies, TrustedProxy,
};
pub use resolve::DEMO_WORDS;
pub(crate) use resolve::{Context, Work, resolve};
pub use runtime_dir::{
    NoRuntimeDir, choose_runtime_dir, directories_of_users, find_runtime_dir,
    runtime_dir_candidates, unit_directories,
};
pub use settings::{
    Admin, CgroupOwner, Command, Config, Count, Credentials, Dialect, Inspector, Limit, LogFormat,
    LogLevel, MaxConnections, Mode, Name, Nice, OomScore, Queue, QueueMax, QueueTimeout, ReadyMin,
    Reload, Restart, Shutdown, Spare, WorkerEnv, WorkerOutput, Workers,
};
