//! Asking by `ListTopicSubscriptions`.

use super::{Asked, SUBSCRIPTIONS_MAX};
use crate::{
    deliver::subscription::{Kind, Rule, Subscription, batch},
    grpc::callback::{AppService, call_error},
};
use outrigger_calls::AppChannel;
use outrigger_kernel::{Deadline, World, within};
use outrigger_proto::runtime::v1::{self as pb, app_callback_client::AppCallbackClient};
use std::{sync::Arc, time::Duration};
use tonic::Code;

pub(super) async fn ask(channel: &Arc<AppChannel>, deadline: Deadline, world: &dyn World) -> Asked {
    let mut client = AppCallbackClient::new(AppService::new(channel, deadline));
    let status = match within(world, deadline, client.list_topic_subscriptions(())).await {
        Ok(Ok(answer)) => return read(answer.into_inner().subscriptions),
        Ok(Err(status)) => status,
        Err(elapsed) => return Asked::Away(elapsed.to_string()),
    };
    if let Some(error) = call_error(&status) {
        return Asked::Away(error.to_string());
    }
    let reason =
        format!("ListTopicSubscriptions answered {:?}: {}", status.code(), status.message());
    match status.code() {
        // A server that knows nothing of callbacks wants no events.
        Code::Unimplemented => Asked::Wants(Vec::new()),
        Code::Unavailable | Code::DeadlineExceeded => Asked::Away(reason),
        Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied => {
            Asked::Refused(reason)
        }
        _ => Asked::Troubled(reason),
    }
}

fn read(list: Vec<pb::TopicSubscription>) -> Asked {
    if list.len() > SUBSCRIPTIONS_MAX {
        let count = list.len();
        return Asked::Refused(format!(
            "ListTopicSubscriptions answered {count} subscriptions, more than {SUBSCRIPTIONS_MAX}"
        ));
    }
    let usable = |(place, one): (usize, pb::TopicSubscription)| {
        if one.pubsub_name.is_empty() || one.topic.is_empty() {
            let reason = "it names no broker or no topic";
            tracing::error!(place, reason, "a subscription that the app asked for cannot be used");
            return None;
        }
        Some(subscription(one))
    };
    Asked::Wants(list.into_iter().enumerate().filter_map(usable).collect())
}

fn subscription(one: pb::TopicSubscription) -> Subscription {
    let routes = one.routes.unwrap_or_default();
    let rule = |rule: pb::TopicRule| Rule { condition: rule.r#match, path: rule.path };
    let rules: Vec<Rule> = routes.rules.into_iter().map(rule).collect();
    // An app that names no route at all takes everything, with an empty path.
    let default = Some(routes.default).filter(|path| !path.is_empty() || rules.is_empty());
    Subscription {
        rules,
        default,
        metadata: one.metadata,
        dead_letter_topic: Some(one.dead_letter_topic).filter(|topic| !topic.is_empty()),
        bulk: one.bulk_subscribe.filter(|bulk| bulk.enabled).map(|bulk| {
            let wait = u64::try_from(bulk.max_await_duration_ms).unwrap_or_default();
            let messages = u32::try_from(bulk.max_messages_count).unwrap_or_default();
            batch(messages, Duration::from_millis(wait))
        }),
        ..Subscription::new(Kind::Programmatic, &one.pubsub_name, &one.topic, "")
    }
}
