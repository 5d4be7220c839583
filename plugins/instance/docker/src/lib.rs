//! temporary
use std::collections::BTreeMap;
pub struct Config;
pub fn configure(_: &BTreeMap<String, String>, _: impl Fn(&str) -> Option<String>) -> Result<Config, String> {
    Ok(Config)
}
pub async fn plugin(_: &Config) -> Result<spi::Plugin, String> {
    Err("later".into())
}
