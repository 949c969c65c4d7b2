"""The double of the AWS plugin: key pair, security group, instance and image lookup, done by boto3 at an emulator."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import boto3
from botocore.exceptions import ClientError

from tests.doubles.plugins.plugin import Double, Kind, serve
from tests.doubles.plugins.wire import Properties

VERSION: Final = "7.51.1"  # a test compares it with the installed SDK's
Rows = list[dict[str, Any]]


def connect(configuration: Properties) -> Any:
    """An EC2 client of the configured region; endpoint and credentials come from the environment."""
    return boto3.client("ec2", region_name=configuration["region"])


def _tags(properties: Properties) -> Rows:
    return [{"Key": key, "Value": value} for key, value in properties.get("tags", {}).items()]


def _tagged(type: str, properties: Properties, key: str = "tags") -> Rows:
    tags = [{"Key": name, "Value": value} for name, value in properties.get(key, {}).items()]
    return [{"ResourceType": type, "Tags": tags}] if tags else []


def _retag(ec2: Any, id: str, properties: Properties) -> None:
    ec2.create_tags(Resources=[id], Tags=_tags(properties))


def _ignoring_absence(call: Any) -> None:
    try:
        call()
    except ClientError as error:
        if "NotFound" not in error.response["Error"]["Code"]:
            raise


def _found(call: Any) -> Rows:
    try:
        return list(call())
    except ClientError as error:
        if "NotFound" in error.response["Error"]["Code"]:
            return []
        raise


# ── key pair ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_key(ec2: Any, inputs: Properties) -> str:
    name = str(inputs["keyName"])
    ec2.import_key_pair(
        KeyName=name, PublicKeyMaterial=inputs["publicKey"].encode(), TagSpecifications=_tagged("key-pair", inputs)
    )
    return name


def _read_key(ec2: Any, id: str) -> Properties | None:
    rows = _found(lambda: ec2.describe_key_pairs(KeyNames=[id])["KeyPairs"])
    return {"keyName": id, "keyPairId": rows[0]["KeyPairId"], "fingerprint": rows[0]["KeyFingerprint"]} if rows else None


def _retag_key(ec2: Any, id: str, properties: Properties) -> None:
    _retag(ec2, ec2.describe_key_pairs(KeyNames=[id])["KeyPairs"][0]["KeyPairId"], properties)


KEY_PAIR: Final = Kind(
    accepts=frozenset({"keyName", "publicKey", "tags"}),
    required=frozenset({"publicKey"}),
    replaces=frozenset({"keyName", "publicKey"}),
    computed=("keyPairId", "fingerprint", "arn"),
    create=_create_key,
    read=_read_key,
    update=_retag_key,
    delete=lambda ec2, id: _ignoring_absence(lambda: ec2.delete_key_pair(KeyName=id)),
    auto_name="keyName",
)

# ── security group ─────────────────────────────────────────────────────────────────────────────────────────────────


def _create_group(ec2: Any, inputs: Properties) -> str:
    vpc = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(
        GroupName=inputs["name"],
        Description=inputs["description"],
        VpcId=vpc,
        TagSpecifications=_tagged("security-group", inputs),
    )["GroupId"]
    own = ec2.describe_security_groups(GroupIds=[group])["SecurityGroups"][0]["IpPermissionsEgress"]
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=own)  # as the vendor's plugin does
    if rules := inputs.get("ingress"):
        ec2.authorize_security_group_ingress(GroupId=group, IpPermissions=_permissions(rules))
    if rules := inputs.get("egress"):
        ec2.authorize_security_group_egress(GroupId=group, IpPermissions=_permissions(rules))
    return str(group)


def _permissions(rules: Iterable[Properties]) -> Rows:
    return [
        {
            "IpProtocol": rule["protocol"],
            "FromPort": rule["fromPort"],
            "ToPort": rule["toPort"],
            "IpRanges": [{"CidrIp": cidr} for cidr in rule.get("cidrBlocks", [])],
            "Ipv6Ranges": [{"CidrIpv6": cidr} for cidr in rule.get("ipv6CidrBlocks", [])],
        }
        for rule in rules
    ]


def _read_group(ec2: Any, id: str) -> Properties | None:
    rows = _found(lambda: ec2.describe_security_groups(GroupIds=[id])["SecurityGroups"])
    return {"vpcId": rows[0]["VpcId"], "ownerId": rows[0]["OwnerId"]} if rows else None


SECURITY_GROUP: Final = Kind(
    accepts=frozenset({"name", "description", "ingress", "egress", "tags"}),
    required=frozenset(),
    replaces=frozenset({"name", "description"}),
    computed=("vpcId", "ownerId", "arn"),
    create=_create_group,
    read=_read_group,
    update=_retag,
    delete=lambda ec2, id: _ignoring_absence(lambda: ec2.delete_security_group(GroupId=id)),
    auto_name="name",
)

# ── instance ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_instance(ec2: Any, inputs: Properties) -> str:
    image = ec2.describe_images(ImageIds=[inputs["ami"]])["Images"][0]
    answer = ec2.run_instances(
        MinCount=1,
        MaxCount=1,
        ImageId=inputs["ami"],
        InstanceType=inputs["instanceType"],
        KeyName=inputs["keyName"],
        SecurityGroupIds=inputs["vpcSecurityGroupIds"],
        UserData=inputs["userData"],
        InstanceInitiatedShutdownBehavior=inputs["instanceInitiatedShutdownBehavior"],
        MetadataOptions=_metadata_options(inputs["metadataOptions"]),
        BlockDeviceMappings=[{"DeviceName": image["RootDeviceName"], "Ebs": _disk(inputs["rootBlockDevice"])}],
        TagSpecifications=[*_tagged("instance", inputs), *_tagged("volume", inputs, "volumeTags")],
        **_market(inputs.get("instanceMarketOptions")),
        **_place(inputs.get("availabilityZone")),
    )
    id = str(answer["Instances"][0]["InstanceId"])
    ec2.get_waiter("instance_running").wait(InstanceIds=[id], WaiterConfig={"Delay": 1})
    return id


def _metadata_options(options: Properties) -> dict[str, Any]:
    return {
        "HttpEndpoint": options["httpEndpoint"],
        "HttpTokens": options["httpTokens"],
        "HttpPutResponseHopLimit": options["httpPutResponseHopLimit"],
    }


def _disk(device: Properties) -> dict[str, Any]:
    return {
        "VolumeSize": device["volumeSize"],
        "VolumeType": device["volumeType"],
        "Encrypted": device["encrypted"],
        "DeleteOnTermination": device["deleteOnTermination"],
    }


def _place(zone: str | None) -> dict[str, Any]:
    return {} if zone is None else {"Placement": {"AvailabilityZone": zone}}


def _market(options: Properties | None) -> dict[str, Any]:
    if options is None:
        return {}
    spot = options["spotOptions"]
    spot_options = {
        "SpotInstanceType": spot["spotInstanceType"],
        "InstanceInterruptionBehavior": spot["instanceInterruptionBehavior"],
        "MaxPrice": spot["maxPrice"],
    }
    return {"InstanceMarketOptions": {"MarketType": options["marketType"], "SpotOptions": spot_options}}


def _read_instance(ec2: Any, id: str) -> Properties | None:
    reservations = _found(lambda: ec2.describe_instances(InstanceIds=[id])["Reservations"])
    rows = [row for reservation in reservations for row in reservation["Instances"] if row["State"]["Name"] != "terminated"]
    if not rows:
        return None
    state = rows[0]["State"]["Name"]
    zone = rows[0]["Placement"]["AvailabilityZone"]
    addresses = {"publicIp": rows[0].get("PublicIpAddress", ""), "privateIp": rows[0]["PrivateIpAddress"]}
    return {**addresses, "instanceState": state, "availabilityZone": zone}


def _delete_instance(ec2: Any, id: str) -> None:
    _ignoring_absence(lambda: ec2.terminate_instances(InstanceIds=[id]))
    ec2.get_waiter("instance_terminated").wait(InstanceIds=[id], WaiterConfig={"Delay": 1})


INSTANCE: Final = Kind(
    accepts=frozenset(
        {
            "ami",
            "availabilityZone",
            "associatePublicIpAddress",  # the emulator's default network gives one anyway
            "instanceInitiatedShutdownBehavior",
            "instanceMarketOptions",
            "instanceType",
            "keyName",
            "metadataOptions",
            "rootBlockDevice",
            "tags",
            "userData",
            "volumeTags",
            "vpcSecurityGroupIds",
        }
    ),
    required=frozenset(),
    replaces=frozenset({"ami", "instanceType", "keyName", "userData"}),
    computed=("publicIp", "privateIp", "instanceState", "arn", "availabilityZone"),
    create=_create_instance,
    read=_read_instance,
    update=_retag,
    delete=_delete_instance,
)

# ── volume ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _create_volume(ec2: Any, inputs: Properties) -> str:
    answer = ec2.create_volume(
        AvailabilityZone=inputs["availabilityZone"],
        Size=inputs["size"],
        VolumeType=inputs["type"],
        Encrypted=inputs["encrypted"],
        TagSpecifications=_tagged("volume", inputs),
    )
    ec2.get_waiter("volume_available").wait(VolumeIds=[answer["VolumeId"]], WaiterConfig={"Delay": 1})
    return str(answer["VolumeId"])


def _read_volume(ec2: Any, id: str) -> Properties | None:
    rows = _found(lambda: ec2.describe_volumes(VolumeIds=[id])["Volumes"])
    return {"createTime": str(rows[0]["CreateTime"])} if rows else None


VOLUME: Final = Kind(
    accepts=frozenset({"availabilityZone", "encrypted", "size", "tags", "type"}),
    required=frozenset({"availabilityZone"}),
    replaces=frozenset({"availabilityZone", "encrypted"}),
    computed=("createTime", "arn"),
    create=_create_volume,
    read=_read_volume,
    update=_retag,
    delete=lambda ec2, id: _ignoring_absence(lambda: ec2.delete_volume(VolumeId=id)),
)


def _attach(ec2: Any, inputs: Properties) -> str:
    """Named as the vendor's plugin names it: by what it joins, and where."""
    ec2.attach_volume(VolumeId=inputs["volumeId"], InstanceId=inputs["instanceId"], Device=inputs["deviceName"])
    ec2.get_waiter("volume_in_use").wait(VolumeIds=[inputs["volumeId"]], WaiterConfig={"Delay": 1})
    return f"vai-{inputs['volumeId']}:{inputs['instanceId']}"


def _read_attachment(ec2: Any, id: str) -> Properties | None:
    volume = id.removeprefix("vai-").partition(":")[0]
    rows = _found(lambda: ec2.describe_volumes(VolumeIds=[volume])["Volumes"])
    return {} if rows and rows[0]["Attachments"] else None


def _detach(ec2: Any, id: str) -> None:
    _ignoring_absence(lambda: ec2.detach_volume(VolumeId=id.removeprefix("vai-").partition(":")[0]))


ATTACHMENT: Final = Kind(
    accepts=frozenset({"deviceName", "instanceId", "volumeId"}),
    required=frozenset({"deviceName", "instanceId", "volumeId"}),
    replaces=frozenset({"deviceName", "instanceId", "volumeId"}),
    computed=(),
    create=_attach,
    read=_read_attachment,
    update=lambda ec2, id, news: None,
    delete=_detach,
)

# ── lookups ────────────────────────────────────────────────────────────────────────────────────────────────────────


def _get_ami(ec2: Any, args: Properties) -> Properties:
    filters = [{"Name": filter["name"], "Values": filter["values"]} for filter in args["filters"]]
    images = ec2.describe_images(Owners=args["owners"], Filters=filters)["Images"]
    if not images:
        raise LookupError("Your query returned no results. Please change your search criteria and try again.")
    newest = max(images, key=lambda image: str(image["CreationDate"]))
    mappings = [
        {"deviceName": row["DeviceName"], "noDevice": "", "virtualName": "", "ebs": _texts(row.get("Ebs", {}))}
        for row in newest["BlockDeviceMappings"]
    ]
    return args | {"id": newest["ImageId"], "name": newest["Name"], "blockDeviceMappings": mappings}


def _get_offerings(ec2: Any, args: Properties) -> Properties:
    filters = [{"Name": filter["name"], "Values": filter["values"]} for filter in args["filters"]]
    pages = ec2.get_paginator("describe_instance_type_offerings").paginate(LocationType=args["locationType"], Filters=filters)
    rows = [row for page in pages for row in page["InstanceTypeOfferings"]]
    return args | {"id": "offerings", "locations": [row["Location"] for row in rows]}


def _texts(ebs: dict[str, Any]) -> dict[str, str]:
    return {"volume_size": str(ebs["VolumeSize"])} if "VolumeSize" in ebs else {}


AWS: Final = Double(
    name="aws",
    version=VERSION,
    kinds={
        "aws:ec2/keyPair:KeyPair": KEY_PAIR,
        "aws:ec2/securityGroup:SecurityGroup": SECURITY_GROUP,
        "aws:ec2/instance:Instance": INSTANCE,
        "aws:ebs/volume:Volume": VOLUME,
        "aws:ec2/volumeAttachment:VolumeAttachment": ATTACHMENT,
    },
    lookups={
        "aws:ec2/getAmi:getAmi": _get_ami,
        "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": _get_offerings,
    },
    connect=connect,
)

if __name__ == "__main__":
    serve(AWS)
