//! What is refused on views by commands that are not asked in a database of their own.

use mongodb::bson::{Bson, Document, doc};

use crate::world::{World, code};

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_neither_renamed_nor_replaced_by_a_collection() {
    let world = World::start().await;
    world.seat("ada");
    let client = world.client("ada").await;
    let ada = client.database("ada");
    ada.collection::<Document>("c")
        .insert_one(doc! { "_id": 1 })
        .await
        .unwrap();
    let create = doc! { "create": "v", "viewOn": "c", "pipeline": [] };
    ada.run_command(create).await.unwrap();
    let admin = client.database("admin");
    let rename = |from: &str, to: &str| {
        let (from, to) = (format!("ada.{from}"), format!("ada.{to}"));
        admin.run_command(doc! { "renameCollection": from, "to": to, "dropTarget": true })
    };
    assert_eq!(code(rename("c", "v").await), 48);
    assert_eq!(code(rename("v", "w").await), 166);
    assert_eq!(code(rename("nope", "v").await), 26);
    let found = ada.run_command(doc! { "count": "v" }).await.unwrap();
    assert_eq!(found.get("n"), Some(&Bson::Int32(1)));
    rename("c", "d").await.unwrap();
}
