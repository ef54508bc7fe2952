//! The `env` table → variables of every worker; no value of it reaches a message.

use std::collections::BTreeMap;

use super::Resolver;
use crate::config::error::ConfigError;
use crate::config::listen::Address;
use crate::config::settings::WorkerEnv;
use crate::config::value::{Data, Value};

impl Resolver<'_> {
    pub(super) fn env(&mut self) -> WorkerEnv {
        let Some(value) = self.values.get("env") else {
            return WorkerEnv::default();
        };
        let Data::Table(fields) = &value.data else {
            let message = format!("env: {} is not a table", value.shown());
            self.fail(message, "env");
            return WorkerEnv::default();
        };
        let mut env = BTreeMap::new();
        for field in fields {
            match env_value(&field.name, &field.value) {
                Ok(text) => drop(env.insert(field.name.clone(), text)),
                Err(message) => {
                    let message = format!("env.{}: {message}", field.name.escape_default());
                    self.errors.push(ConfigError::new(message, field.at.clone()));
                }
            }
        }
        WorkerEnv(env)
    }

    pub(super) fn fallback_listen(&self, env: &WorkerEnv) -> Address {
        let port = env.0.get("PORT").map(String::as_str);
        Address::fallback(port.or(self.context.environment.get("PORT")))
    }
}

/// The text of a worker's variable; its value never reaches a message.
fn env_value(name: &str, value: &Value) -> Result<String, String> {
    let valid = !name.is_empty() && !name.contains(['=', '\0']);
    if !valid {
        return Err("is not a name for a variable".to_owned());
    }
    let ours = ["NODE_CHANNEL_FD", "NODE_UNIQUE_ID", "NODE_CHANNEL_SERIALIZATION_MODE"];
    if name.starts_with("TENFOLD_") || ours.contains(&name) || name == "NODE_APP_INSTANCE" {
        return Err("is set by tenfold itself".to_owned());
    }
    match &value.data {
        Data::Bare(text) | Data::Text(text) if text.contains('\0') => {
            Err("its value holds a NUL".to_owned())
        }
        Data::Bare(text) | Data::Text(text) => Ok(text.clone()),
        Data::Integer(number) => Ok(number.to_string()),
        Data::Boolean(boolean) => Ok(boolean.to_string()),
        Data::List(_) | Data::Table(_) | Data::Other(_) => {
            Err("its value is not a string, a whole number, true or false".to_owned())
        }
    }
}
