//! A set that lets in nobody without a password.

use anyhow::Context;
use mongodb::{
    Client,
    bson::{Document, doc},
    error::ErrorKind,
};
use runtime::secrets::{random_key_hex, write_secret_file};

use super::{Cluster, Folder};

/// May make and remove users; all that the harness itself needs.
const ADMINISTRATOR: &str = "administrator";

/// Somebody whom a [`Cluster`] lets in.
#[derive(Debug, Clone)]
pub struct User {
    name: String,
    /// Hexadecimal, so that a URI may hold it as it is.
    pub password: String,
    uri: String,
}

impl Cluster {
    /// Starts a set of one member in which every operation needs a user, and its administrator.
    pub async fn start_with_users() -> anyhow::Result<(Self, User)> {
        let folder = Folder::new()?;
        let key_file = folder.path().join("members.key");
        write_secret_file(&key_file, random_key_hex())?;
        let cluster = Self::start_in(folder, 1, Some(key_file)).await?;
        let administrator = cluster.user(ADMINISTRATOR);
        // The first user of all may be made by anybody on the same machine.
        let anybody = Client::with_uri_str(cluster.member_uri(0)).await?;
        create(&anybody, &administrator, vec![doc! { "role": "root", "db": "admin" }]).await?;
        Ok((cluster, administrator))
    }

    /// Makes a user who may read and write these databases, and nothing else.
    pub async fn add_user(
        &self,
        administrator: &User,
        name: &str,
        databases: &[String],
    ) -> anyhow::Result<User> {
        let user = self.user(name);
        let role = |database: &String| doc! { "role": "readWrite", "db": database };
        create(&administrator.client().await?, &user, databases.iter().map(role).collect()).await?;
        Ok(user)
    }

    fn user(&self, name: &str) -> User {
        let (name, password) = (name.to_owned(), random_key_hex());
        let at = format!("mongodb://{name}:{password}@");
        let uri = format!("{}&authSource=admin", self.uri().replace("mongodb://", &at));
        User { name, password, uri }
    }
}

impl User {
    /// Where the set is, with name and password.
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// Removes another user, whose open connections may do nothing from then on.
    pub async fn remove(&self, other: &Self) -> anyhow::Result<()> {
        let admin = self.client().await?.database("admin");
        admin.run_command(doc! { "dropUser": &other.name }).await.context("dropUser")?;
        Ok(())
    }

    /// How many connections another user has open.
    pub async fn connections(&self, other: &Self) -> anyhow::Result<usize> {
        let admin = self.client().await?.database("admin");
        let command = doc! { "currentOp": 1, "$all": true, "effectiveUsers.user": &other.name };
        let answer = admin.run_command(command).await.context("currentOp")?;
        Ok(answer.get_array("inprog")?.len())
    }

    /// Whether the set lets the user in.
    pub async fn may_enter(&self) -> anyhow::Result<bool> {
        let ping = self.client().await?.database("admin").run_command(doc! { "ping": 1 }).await;
        match ping {
            Ok(_) => Ok(true),
            Err(error) if matches!(*error.kind, ErrorKind::Authentication { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    async fn client(&self) -> anyhow::Result<Client> {
        Ok(Client::with_uri_str(&self.uri).await?)
    }
}

async fn create(client: &Client, user: &User, roles: Vec<Document>) -> anyhow::Result<()> {
    let command = doc! { "createUser": &user.name, "pwd": &user.password, "roles": roles };
    client.database("admin").run_command(command).await.context("createUser")?;
    Ok(())
}
